"""An error in one schedule, run or archive does not stop the others, on the real PostgreSQL."""

import shutil
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from db import dispatch, planning, runs, schedules
from db.monitoring import ledger_samples
from db.planning import ListedPage, PlannedChunk
from db.reads import run_progress
from db.schedules import ScheduleRefused, ScheduleSpec
from geotag.context import Context
from tests.conftest import Geotag
from tests.integration.test_schedules import (
    Clients,
    archive_of,
    change_run,
    forget_others,
    nights_of,
    scheduled,
)
from tests.ledger_helpers import listed
from tests.stack_helpers import parsed
from workers.planning.control_loop import ControlLoop

NIGHT = datetime(2026, 10, 11, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine(running: Context) -> Iterator[Engine]:
    """The ledger, with only the schedules and unplanned runs of the test."""
    forget_others(running.engine)
    yield running.engine
    forget_others(running.engine)


def change_schedule(engine: Engine, archive: str, change: str) -> None:
    with engine.begin() as connection:
        of_archive = "archive_id = (SELECT id FROM geotag.archive WHERE name = :name)"
        statement = text(f"UPDATE geotag.schedule SET {change} WHERE {of_archive}")
        connection.execute(statement, {"name": archive})


def run_with_a_chunk(engine: Engine, archive: str) -> runs.Run:
    """Return a completely planned run of an archive, with one unpublished chunk."""
    with engine.connect() as connection:
        query = text("SELECT id FROM geotag.archive WHERE name = :name")
        archive_id = connection.execute(query, {"name": archive}).scalar_one()
    run = runs.open_run(engine, f"s3://{archive}/", "backfill", archive_id)
    page = ListedPage(listed(archive_id, ["a.jpg"]))
    planning.close_plan(engine, planning.plan_page(engine, run, page, chunk_size=8).run)
    return run


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("timezone = 'Mars/Olympus_Mons'", "Mars/Olympus_Mons"),
        ("cron = 'whenever'", "whenever"),
        ("cron = '0 22 30 2 *'", "0 22 30 2"),
    ],
)
def test_a_broken_schedule_stops_no_other_night_and_no_publishing(
    engine: Engine, geotag: Geotag, broken: str, said: str
) -> None:
    bad, good = scheduled(engine), scheduled(engine)
    change_schedule(engine, bad, f"{broken}, next_at = next_at - interval '1 day'")
    clients = Clients(engine)

    for rounds in (1, 2):
        ControlLoop(clients).tick(NIGHT)
        assert clients.rounds == rounds
    assert len(nights_of(engine, good)) == 1
    assert nights_of(engine, bad) == []

    (record,) = parsed(geotag("schedule", "show", bad, "--format", "json"))
    assert said in record["error"]
    for command in (("schedule", "show", bad), ("schedule", "list"), ("status",)):
        shown = geotag(*command)
        assert shown.returncode == 0, shown.stderr
        assert said in shown.stdout
    checked = geotag("doctor")
    assert said in checked.stdout
    assert f"geotag schedule remove {bad}" in " ".join(checked.stdout.split())

    change_schedule(engine, bad, "cron = '0 22 * * *', timezone = 'UTC'")
    ControlLoop(clients).tick(NIGHT)
    assert len(nights_of(engine, bad)) == 1
    (record,) = parsed(geotag("schedule", "show", bad, "--format", "json"))
    assert record["error"] is None


def test_a_night_that_the_database_refuses_stops_no_other(engine: Engine) -> None:
    bad, good = scheduled(engine), scheduled(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "ALTER TABLE geotag.run ADD CONSTRAINT test_refusal"
                f" CHECK (source <> 's3://{bad}/') NOT VALID"
            )
        )
    try:
        ControlLoop(Clients(engine)).tick(NIGHT)
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE geotag.run DROP CONSTRAINT test_refusal"))
    assert len(nights_of(engine, good)) == 1
    (schedule,) = schedules.schedules(engine, bad)
    assert "test_refusal" in str(schedule.error)


def test_a_window_of_an_unknown_zone_closes_its_own_run_only(
    engine: Engine, geotag: Geotag
) -> None:
    bad, good = (run_with_a_chunk(engine, archive_of(engine)) for _ in range(2))
    window = "opens = '22:00', closes = '06:00', timezone = 'Mars/Olympus_Mons'"
    change_run(engine, bad.id, window)
    with engine.begin() as connection:  # as if published while its zone was known
        connection.execute(
            text("UPDATE geotag.chunk SET published_at = now() WHERE run_id = :id"), {"id": bad.id}
        )
    sent: list[PlannedChunk] = []

    assert dispatch.recall_closed(engine, dispatch.clock(engine)) == 1
    dispatch.publish_waiting(engine, "backfill", dispatch.clock(engine), sent.append, 1000)
    with engine.connect() as connection:
        query = text("SELECT run_id FROM geotag.chunk WHERE id = ANY(:ids)")
        published = connection.execute(query, {"ids": [chunk.chunk_id for chunk in sent]})
        assert good.id in (of := published.scalars().all())
        assert bad.id not in of
    assert ledger_samples(engine)
    (progress,) = run_progress(engine, bad.id)
    assert progress.state == "unknown_time_zone"
    shown = geotag("status", "--run", str(bad.id))
    assert "Mars/Olympus_Mons" in shown.stdout
    assert f"geotag cancel {bad.id}" in shown.stdout


def test_a_zone_that_only_the_host_knows_is_refused(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL does not read the zone files in the folders of PYTHONTZPATH."""
    source = next(Path(folder) / "Europe/Berlin" for folder in zoneinfo.TZPATH)
    shutil.copy(source, tmp_path / "Ours")
    monkeypatch.setattr(zoneinfo, "TZPATH", zoneinfo.TZPATH)
    zoneinfo.reset_tzpath([str(tmp_path), *zoneinfo.TZPATH])
    try:
        for window in ({}, {"opens": time(22), "closes": time(6)}):
            spec = ScheduleSpec("0 22 * * *", "Ours", **window)
            archive = archive_of(engine)
            with pytest.raises(ScheduleRefused, match="Ours"):
                schedules.add(engine, archive, spec, NIGHT)
    finally:
        zoneinfo.reset_tzpath()


def test_a_zone_that_only_the_database_knows_is_refused(engine: Engine) -> None:
    with pytest.raises(ScheduleRefused, match="XYZ5"):
        schedules.add(engine, archive_of(engine), ScheduleSpec("0 22 * * *", "XYZ5"), NIGHT)


def test_zones_are_known_without_those_of_the_host() -> None:
    zoneinfo.reset_tzpath([])
    try:
        assert zoneinfo.ZoneInfo.no_cache("Europe/Berlin").key == "Europe/Berlin"
    finally:
        zoneinfo.reset_tzpath()
