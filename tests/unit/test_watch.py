"""The displayed rate, waiting for a run, and the exit code of a finished one."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from db.reads import RunProgress
from geotag.formats import Format
from geotag.runs.watch import Rate, ServiceStayedAway, report, watch
from workers.errors import UsageError

DONE = RunProgress(
    id=7,
    source="s3://b/[bold]p[/]",
    queue="backfill",
    release="untrained",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    planned_at=datetime(2026, 1, 1, tzinfo=UTC),
    listed=10,
    skipped=0,
    done_before=0,
    failed_before=0,
    planned=10,
    geotagged=10,
    abstained=0,
    failed=0,
    quarantined=0,
    finished=True,
    last_finished_at=None,
    heartbeat_at=None,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("geotag.runs.watch.time.monotonic", lambda: now.seconds)
    return now


def test_rate_is_unknown_until_something_moves(clock: SimpleNamespace) -> None:
    rate = Rate()
    assert rate.update(5) is None
    clock.seconds += 10
    assert rate.update(5) is None
    clock.seconds += 10
    assert rate.update(25) == 1.0


def test_rate_ignores_old_progress(clock: SimpleNamespace) -> None:
    rate, done = Rate(), 0
    for step in [*[1] * 100, *[5] * 30]:
        done += step
        clock.seconds += 1
        latest = rate.update(done)
    assert latest == pytest.approx(5.0)


def test_rate_of_a_run_that_stands_still_is_none(clock: SimpleNamespace) -> None:
    rate = Rate()
    rate.update(0)
    for _ in range(60):
        clock.seconds += 1
        latest = rate.update(100)
    assert latest is None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return what `report` prints, with these failure codes in the ledger."""
    console = Console(width=300, record=True, file=io.StringIO())
    ledger = SimpleNamespace(codes=[], asked=0, text=console.export_text)

    def failure_codes(_engine: object, _run_id: int) -> list[tuple[str, int]]:
        ledger.asked += 1
        return list(ledger.codes)

    monkeypatch.setattr("geotag.runs.watch.console", console)
    monkeypatch.setattr("geotag.runs.watch.failure_codes", failure_codes)
    return ledger


CONTEXT: Any = SimpleNamespace(engine=None)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"geotagged": 4, "abstained": 6}, 0),
        ({"planned": 0, "geotagged": 0, "done_before": 10}, 0),
        ({"listed": 0, "planned": 0, "geotagged": 0}, 0),
        ({"geotagged": 9, "failed": 1}, 3),
        ({"geotagged": 9, "quarantined": 1}, 3),
        ({"geotagged": 9, "state": "cancelled"}, 3),
        ({"planned": 0, "geotagged": 0, "done_before": 10, "failed_before": 1}, 3),
    ],
)
def test_exit_code_follows_from_the_outcomes(said: Any, changes: dict[str, int], code: int) -> None:
    assert report(CONTEXT, replace(DONE, **changes), 5.0) == code  # type: ignore[arg-type]


def test_failures_are_counted_by_code_with_the_command_that_lists_them(said: Any) -> None:
    said.codes = [("corrupt", 2), ("empty", 1)]
    report(CONTEXT, replace(DONE, geotagged=7, failed=3), 2.0)
    text = said.text()
    assert "10 found" in text
    assert "7 geotagged, 3 failed in 2.0 s, 5.0/s" in text
    assert "2 corrupt" in text
    assert "geotag results --run 7 --state failed" in text
    assert "geotag failures --run 7" in text


def test_quarantined_objects_are_listed_by_their_own_state(said: Any) -> None:
    said.codes = [("worker_killed", 1)]
    report(CONTEXT, replace(DONE, geotagged=9, quarantined=1))
    assert "--state quarantined" in said.text()


def test_pending_objects_of_a_cancelled_run_are_reported(said: Any) -> None:
    report(CONTEXT, replace(DONE, geotagged=4, state="cancelled"))
    assert "6 objects stay pending" in said.text()


def test_failure_codes_are_not_queried_if_nothing_failed(said: Any) -> None:
    report(CONTEXT, DONE)
    assert said.asked == 0
    assert "left out" not in said.text()
    report(CONTEXT, replace(DONE, skipped=3))
    assert "3 left out" in said.text()


@pytest.mark.parametrize(
    ("source", "listed"),
    [
        ("s3://b/p/", "geotag results s3://b/p/ --state failed"),
        ("s3://b/[bold]a b[/]", "geotag results 's3://b/[bold]a b[/]' --state failed"),
        ("manifest /list.csv", "geotag results --state failed"),
    ],
)
def test_failures_of_earlier_runs_can_be_listed_too(said: Any, source: str, listed: str) -> None:
    before = {"planned": 0, "geotagged": 0, "done_before": 10, "failed_before": 2}
    assert report(CONTEXT, replace(DONE, source=source, **before)) == 3
    text = said.text()
    assert listed in text
    assert "--run" not in text


def test_long_run_is_polled_less_often(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.seconds += seconds

    def run_progress(_engine: object, _run_id: int) -> list[RunProgress]:
        done = round(clock.seconds)
        return [replace(DONE, listed=160, planned=160, geotagged=done, finished=done >= 160)]

    monkeypatch.setattr("geotag.runs.watch.time.sleep", sleep)
    monkeypatch.setattr("geotag.runs.watch.run_progress", run_progress)
    context: Any = SimpleNamespace(
        engine=None, settings=SimpleNamespace(command=SimpleNamespace(wait_seconds=60.0))
    )
    assert watch(context, 7, form=Format.JSON).finished
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == 2.0


def test_unknown_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geotag.runs.watch.run_progress", lambda _engine, _run_id: [])
    with pytest.raises(UsageError, match="no run 99999"):
        watch(CONTEXT, 99999)


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> SimpleNamespace:
    """A run that makes no progress for 90 seconds and then ends; the patience is ten."""
    run = SimpleNamespace(state="working", beats_until=0)
    began = datetime(2026, 11, 25, tzinfo=UTC)

    def progress(_engine: object, _run_id: int) -> list[RunProgress]:
        clock.seconds += 1
        finished = clock.seconds > 190
        beat = began + timedelta(seconds=min(clock.seconds, run.beats_until))
        return [replace(DONE, geotagged=4, finished=finished, state=run.state, heartbeat_at=beat)]

    monkeypatch.setattr("geotag.runs.watch.run_progress", progress)
    monkeypatch.setattr("geotag.runs.watch.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("geotag.runs.watch._unavailable", lambda _context: ())
    run.context = SimpleNamespace(
        engine=None, settings=SimpleNamespace(command=SimpleNamespace(wait_seconds=10.0))
    )
    return run


@pytest.mark.parametrize("state", ["paused", "archive_paused", "archive_removed", "outside_window"])
def test_watching_a_paused_run_goes_on(stands: SimpleNamespace, state: str) -> None:
    stands.state = state
    assert watch(stands.context, 7).finished


def test_watching_a_stalled_run_ends(stands: SimpleNamespace) -> None:
    with pytest.raises(ServiceStayedAway, match="nothing moved for 11 s"):
        watch(stands.context, 7)


def test_watching_goes_on_while_a_worker_sends_heartbeats(stands: SimpleNamespace) -> None:
    """A large object on a slow link may give no outcome for longer than GEOTAG_WAIT_SECONDS."""
    stands.beats_until = 200
    assert watch(stands.context, 7).finished


@pytest.mark.parametrize("end", ["the worker dies", "a service is unavailable"])
def test_heartbeats_extend_the_patience_only_so_far(
    stands: SimpleNamespace, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands.beats_until = 130 if end == "the worker dies" else 200
    if end == "a service is unavailable":
        monkeypatch.setattr("geotag.runs.watch._unavailable", lambda _context: ("Triton",))
    with pytest.raises(ServiceStayedAway):
        watch(stands.context, 7)


def test_a_parked_run_is_watched_until_no_chunk_is_left(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    parked = replace(
        DONE, finished=False, state="parked", plan_error="planner_died: killed", chunks_queued=1
    )
    looks = iter([parked, replace(parked, chunks_queued=0)])
    monkeypatch.setattr("geotag.runs.watch.run_progress", lambda *_given: [next(looks)])
    monkeypatch.setattr("geotag.runs.watch.time.sleep", lambda _seconds: None)
    settings = SimpleNamespace(command=SimpleNamespace(wait_seconds=60.0))
    context: Any = SimpleNamespace(engine=None, settings=settings)
    with pytest.raises(UsageError, match=r"planner_died: killed.*geotag resume 7"):
        watch(context, 7)
    assert next(looks, None) is None
