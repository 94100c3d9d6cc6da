"""A run whose planning kills its process or fails repeatedly is parked; others are planned."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db import dispatch, runs
from db.reads import run_progress
from geotag.context import Context
from tests.conftest import Geotag
from tests.integration.test_schedules import Clients, archive_of, change_run, forget_others
from tests.stack_helpers import until
from workers.errors import ArchiveUnavailable, BucketUnknown
from workers.planning.control_loop import ControlLoop

FIRST = datetime(2030, 1, 1, tzinfo=UTC)
TRIES = 5
# A planning process as beat starts it, at a given time. For one run it prints a line and hangs.
PLANNER = """
import sys, time
from datetime import datetime
from geotag.context import make_context
from workers.planning.control_loop import ControlLoop
from workers.planning.planner import Planner
from workers.planning.sources import Source

def read(self, run):
    if run.id == int(sys.argv[1]):
        print("planning", flush=True)
        time.sleep(600)
    return Source(run.source, None, lambda cursor: iter(()))

Planner._source = read
print(ControlLoop(make_context()).plan(datetime.fromisoformat(sys.argv[2])), flush=True)
"""


@pytest.fixture
def engine(running: Context) -> Iterator[Engine]:
    """The ledger, with only the schedules and unplanned runs of the test."""
    forget_others(running.engine)
    yield running.engine
    forget_others(running.engine)


def unplanned(engine: Engine) -> int:
    """Open a run of a new archive and leave it unplanned."""
    archive = archive_of(engine)
    with engine.connect() as connection:
        query = text("SELECT id FROM geotag.archive WHERE name = :name")
        archive_id = connection.execute(query, {"name": archive}).scalar_one()
    return runs.open_run(engine, f"s3://{archive}/", "backfill", archive_id).id


def columns(engine: Engine, run_id: int) -> Any:
    with engine.connect() as connection:
        query = text("SELECT * FROM geotag.run WHERE id = :id")
        return connection.execute(query, {"id": run_id}).one()


def planner(killer: int, now: datetime, *, kill: int | None = None) -> str:
    """Plan one run in a process, send it `kill` if that is the run `killer`; return its output."""
    process = subprocess.Popen(
        [sys.executable, "-c", PLANNER, str(killer), now.isoformat()],
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said == "planning" and kill is not None:
            process.send_signal(kill)
        process.wait(60)
        return said
    finally:
        process.kill()
        process.wait()


def test_a_run_that_kills_its_planner_is_parked_and_the_others_are_planned(
    engine: Engine, geotag: Geotag
) -> None:
    killer, other = unplanned(engine), unplanned(engine)
    now = FIRST
    assert planner(killer, now, kill=signal.SIGKILL) == "planning"
    assert planner(killer, now, kill=signal.SIGKILL) == str(other)
    assert columns(engine, other).planned_at is not None

    for _death in range(1, TRIES):
        now += timedelta(hours=1)
        assert planner(killer, now, kill=signal.SIGKILL) == "planning"
    another = unplanned(engine)
    now += timedelta(hours=1)
    assert planner(killer, now, kill=signal.SIGKILL) == str(another)
    assert planner(killer, now, kill=signal.SIGKILL) == "None"

    parked = columns(engine, killer)
    assert parked.planned_at is None
    assert parked.plan_error == (
        f"planner_died: the planner died (killed or out of memory) in try {TRIES} of {TRIES}"
    )
    (progress,) = run_progress(engine, killer)
    assert progress.state == "parked"
    shown, checked = geotag("status"), geotag("doctor")
    for words in (shown.stdout, checked.stdout):
        words = " ".join(words.split())
        assert "the planner died (killed or out of memory)" in words
        assert f"geotag resume {killer}" in words

    assert geotag("resume", str(killer)).returncode == 0
    resumed = columns(engine, killer)
    assert (resumed.plan_tries, resumed.plan_error) == (0, None)
    (progress,) = run_progress(engine, killer)
    assert progress.state == "planning"
    assert planner(0, now) == str(killer)
    assert columns(engine, killer).planned_at is not None


def test_a_planner_that_is_told_to_stop_has_not_failed(engine: Engine) -> None:
    run_id = unplanned(engine)
    clients = Clients(engine)
    loop = ControlLoop(clients)

    def terminate() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    for _stop in range(2 * TRIES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clients, "top_up", terminate)
            patch.setattr(clients.plans, "resume", two_pages)
            assert until(lambda: loop.plan(FIRST)) == run_id
    stopped = columns(engine, run_id)
    assert (stopped.plan_tries, stopped.plan_error, stopped.plan_after) == (0, None, None)
    assert until(lambda: loop.plan(FIRST)) == run_id
    assert clients.plans.planned == {run_id: 1}


def two_pages(_run_id: int, *, publish: Any) -> None:
    publish()
    publish()


def test_a_run_that_cannot_be_planned_is_parked(engine: Engine, geotag: Geotag) -> None:
    run_id = unplanned(engine)
    clients = Clients(engine)
    loop = ControlLoop(clients)
    clients.plans.fails = BucketUnknown("there is no bucket b")
    now = FIRST
    for _try in range(TRIES):
        assert until(partial(loop.plan, now)) == run_id
        now += timedelta(hours=1)
    other = unplanned(engine)
    clients.plans.fails = None
    assert until(partial(loop.plan, now)) == other
    assert loop.plan(now) is None
    (progress,) = run_progress(engine, run_id)
    assert (progress.state, progress.plan_error) == (
        "parked",
        "bucket_unknown: there is no bucket b",
    )

    assert geotag("resume", str(run_id)).returncode == 0
    assert until(partial(loop.plan, now)) == run_id


def test_an_outage_of_an_hour_parks_no_run(engine: Engine) -> None:
    run_id = unplanned(engine)
    clients = Clients(engine)
    loop = ControlLoop(clients)
    clients.plans.fails = ArchiveUnavailable("S3 does not answer")
    now = FIRST
    for _try in range(2 * TRIES):
        assert until(partial(loop.plan, now)) == run_id
        now += timedelta(hours=1)
    clients.plans.fails = None
    assert until(partial(loop.plan, now)) == run_id
    assert clients.plans.planned == {run_id: 1}


def test_a_parked_night_does_not_hold_the_next_one_back(engine: Engine) -> None:
    from db import schedules
    from tests.integration.test_schedules import at, scheduled

    archive = scheduled(engine)
    (night,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    change_run(engine, night.run_id, "parked_at = now(), plan_error = 'bucket_unknown: none'")
    (following,) = schedules.start_due(engine, at("2026-10-11 22:00+02:00"))
    assert following.run_id != night.run_id
    assert [n.run_id for n in schedules.last_nights(engine, archive, 5)] == [
        night.run_id,
        following.run_id,
    ]


def test_a_failed_run_is_tried_again_after_the_time_at_which_it_failed(engine: Engine) -> None:
    """The back-off counts from the failure, because planning may take hours."""
    run_id = unplanned(engine)
    change_run(engine, run_id, "created_at = now() - interval '1 hour'")
    clients = Clients(engine)
    failed_at: list[datetime] = []

    def fail(_run_id: int, *, publish: Any) -> None:
        failed_at.append(dispatch.clock(engine))
        raise ArchiveUnavailable("S3 does not answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients.plans, "resume", fail)
        assert ControlLoop(clients).plan() == run_id
    assert columns(engine, run_id).plan_after >= failed_at[0] + timedelta(minutes=1)
