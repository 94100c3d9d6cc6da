"""Scheduled nights on the real PostgreSQL. The tests give the time; none reads a clock."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from db import archives, control, dispatch, ledger, planning, runs, schedules
from db.archives import ArchiveRecord
from db.engine import sql
from db.monitoring import ledger_samples
from db.planning import ListedPage
from db.reads import run_progress
from db.schedules import NotPaused, NotScheduled, ScheduleRefused, ScheduleSpec
from geotag.context import Context
from geotag.schedules import schedule as schedule_commands
from tests.ledger_helpers import ENDPOINT, listed, new_archive, someone_waits
from tests.stack_helpers import until
from workers.broker.app import BrokerUnavailable
from workers.errors import ArchiveUnavailable, UsageError
from workers.planning.control_loop import ControlLoop

BERLIN = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2026, 10, 10, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine(running: Context) -> Engine:
    """The ledger, with only the schedules and unplanned runs of the test."""
    forget_others(running.engine)
    return running.engine


def forget_others(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM geotag.schedule"))
        connection.execute(
            text("UPDATE geotag.run SET planned_at = now() WHERE planned_at IS NULL")
        )


def archive_of(engine: Engine) -> str:
    """Return the name of a new archive that is not paused."""
    with engine.begin() as connection:
        query = text("UPDATE geotag.archive SET paused_at = NULL WHERE id = :id RETURNING name")
        name: str = connection.execute(query, {"id": new_archive(engine)}).scalar_one()
    return name


def scheduled(engine: Engine, cron: str = "0 22 * * *", **plan: Any) -> str:
    """Return the name of a new archive that is scheduled from `BEGIN`."""
    archive = archive_of(engine)
    schedules.add(engine, archive, ScheduleSpec(cron, "Europe/Berlin", **plan), BEGIN)
    return archive


def at(text_: str) -> datetime:
    return datetime.fromisoformat(text_)


def nights_of(engine: Engine, archive: str) -> list[datetime]:
    """Return the nights of an archive in the ledger."""
    query = (
        "SELECT r.scheduled_for FROM geotag.run r JOIN geotag.archive a ON a.id = r.archive_id"
        " WHERE a.name = :archive AND r.scheduled_for IS NOT NULL ORDER BY r.scheduled_for"
    )
    with engine.connect() as connection:
        return list(connection.execute(text(query), {"archive": archive}).scalars())


def change_run(engine: Engine, run_id: int, change: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE geotag.run SET {change} WHERE id = :id"), {"id": run_id})


class Planner:
    """A planner that counts how often each run was planned to its end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.planned: Counter[int] = Counter()
        self.fails: Exception | None = None

    def resume(self, run_id: int, *, publish: Callable[[], object]) -> None:
        publish()
        if self.fails is not None:
            raise self.fails
        self.planned[run_id] += 1
        change_run(self.engine, run_id, "planned_at = now()")


class Clients:
    """The clients of a control loop, without a broker."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.plans = Planner(engine)
        self.rounds = 0

    def planner(self) -> Any:
        return self.plans

    def publisher(self) -> Any:
        return self

    def round(self, _now: datetime) -> None:
        self.rounds += 1

    def top_up(self) -> int:
        return 0


class Crash(Exception):
    """Stands for the machine being switched off."""


@contextmanager
def crash_after(step: str) -> Iterator[None]:
    """Let ticks crash before they commit, after the query or after the night was inserted."""
    with pytest.MonkeyPatch.context() as patch:

        def crash(*_arguments: object) -> None:
            raise Crash

        patch.setattr(schedules, {"look": "caught_up", "night": "Night"}[step], crash)
        yield


def clock_time(day: date, hour: int, minute: int) -> datetime:
    """Return the first minute of a day at which clocks in Berlin show the time or a later one."""
    midnight = datetime.combine(day, time(0), BERLIN).astimezone(UTC)
    shown = (midnight + timedelta(minutes=passed) for passed in range(25 * 60))
    return next(
        moment
        for moment in shown
        if (local := moment.astimezone(BERLIN)).date() == day
        and (local.hour, local.minute) >= (hour, minute)
    )


@dataclass
class Expected:
    """The expected nights, from an independent calendar."""

    nights: list[datetime]
    due_from: datetime
    paused: bool = False
    unplanned: bool = False
    made: list[datetime] = field(default_factory=list)

    def tick(self, now: datetime) -> None:
        missed = [night for night in self.nights if self.due_from < night <= now]
        if missed and not self.paused and not self.unplanned:
            self.made.append(missed[-1])
            self.due_from = now
            self.unplanned = True

    def resume(self, now: datetime) -> None:
        if self.paused:
            self.paused = False
            self.due_from = now


ACTIONS = ("tick", "tick", "tick", "plan", "plan", "pause", "resume", "crash: look", "crash: night")
STEPS = st.lists(
    # Minutes until the action, or three days with the machine off.
    st.tuples(st.sampled_from(ACTIONS), st.integers(1, 16 * 60) | st.just(3 * 24 * 60)),
    min_size=30,
    max_size=90,
)
HOURS = st.sampled_from([(22, 0), (2, 30), (0, 0), (3, 0)])


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(HOURS, STEPS)
@example((2, 30), [("tick", 30), ("plan", 30)] * 750)
def test_two_beats_and_a_month_of_nights(
    engine: Engine, hour: tuple[int, int], steps: list[tuple[str, int]]
) -> None:
    """With pauses, days without the machine, crashes, and 25 October, which has 02:30 twice."""
    forget_others(engine)
    archive = scheduled(engine, f"{hour[1]} {hour[0]} * * *")
    days = [(BEGIN + timedelta(days=n)).date() for n in range(33)]
    expected = Expected([clock_time(day, *hour) for day in days], BEGIN)
    clients = Clients(engine)
    loop = ControlLoop(clients)
    now = BEGIN

    def twice(do: Callable[[datetime], object]) -> None:
        """Call it in two threads at once, as two beats would."""
        with ThreadPoolExecutor(2) as beats:
            for done in [beats.submit(do, now) for _ in range(2)]:
                done.result()

    for action, minutes in steps:
        now += timedelta(minutes=minutes)
        if now > BEGIN + timedelta(days=31):
            break
        if action == "tick":
            twice(loop.tick)
            expected.tick(now)
        elif action == "plan":
            loop.plan(now)
            assert loop.plan(now) is None
            expected.unplanned = False
        elif action == "pause":
            schedules.pause(engine, archive, now)
            expected.paused = True
        elif action == "resume":
            with nullcontext() if expected.paused else pytest.raises(NotPaused):
                schedules.resume(engine, archive, now)
            expected.resume(now)
        else:
            with crash_after(action.removeprefix("crash: ")), suppress(Crash):
                loop.tick(now)

    loop.plan(now)
    assert nights_of(engine, archive) == expected.made
    assert len(set(expected.made)) == len(expected.made)
    assert clients.plans.planned.total() == len(expected.made)
    assert set(clients.plans.planned.values()) <= {1}


def test_three_missed_nights_start_one_run(engine: Engine) -> None:
    archive = scheduled(engine)
    now = at("2026-10-13 09:00+02:00")
    (night,) = schedules.start_due(engine, now)
    assert night.scheduled_for == at("2026-10-12 22:00+02:00")
    assert schedules.start_due(engine, now) == []
    (schedule,) = schedules.schedules(engine, archive)
    assert schedule.next_at == at("2026-10-13 22:00+02:00")
    assert (schedule.last_run_id, schedule.last_night) == (night.run_id, night.scheduled_for)


def test_night_is_a_run_of_its_archive(engine: Engine) -> None:
    archive = scheduled(engine, opens=time(22), closes=time(6), most=500)
    (night,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    with engine.connect() as connection:
        run = connection.execute(
            text(
                "SELECT r.*, l.active, a.name FROM geotag.run r"
                " JOIN geotag.release l ON l.id = r.release_id"
                " JOIN geotag.archive a ON a.id = r.archive_id WHERE r.id = :id"
            ),
            {"id": night.run_id},
        ).one()
    assert (run.name, run.queue, run.active) == (archive, "backfill", True)
    assert run.source == f"s3://{archive}/"
    assert (run.most, run.opens, run.closes, run.timezone) == (
        500,
        time(22),
        time(6),
        "Europe/Berlin",
    )
    assert run.planned_at is None
    assert schedules.last_nights(engine, archive, 5) == [night]


def test_night_without_a_limit_has_none(engine: Engine) -> None:
    archive = scheduled(engine)
    (night,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    assert runs.room(engine, night.run_id) is None
    assert planned(engine, archive, night) == list("abcdef")


def test_next_night_waits_until_the_previous_one_is_planned(engine: Engine) -> None:
    archive = scheduled(engine)
    (first,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    assert schedules.start_due(engine, at("2026-10-12 12:00+02:00")) == []
    change_run(engine, first.run_id, "planned_at = now()")
    (second,) = schedules.start_due(engine, at("2026-10-12 12:05+02:00"))
    assert second.scheduled_for == at("2026-10-11 22:00+02:00")
    control.cancel_run(engine, second.run_id, at("2026-10-12 13:00+02:00"))
    assert len(schedules.start_due(engine, at("2026-10-12 22:00+02:00"))) == 1
    assert len(nights_of(engine, archive)) == 3


def test_cancelled_run_is_not_planned_and_delays_no_night(engine: Engine) -> None:
    archive = scheduled(engine)
    (first,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    # As if a planner had reset the run while it was cancelled.
    change_run(engine, first.run_id, "cancelled_at = now(), planned_at = NULL")
    assert runs.next_plan(engine, at("2026-10-10 23:00+02:00")) is None
    assert len(schedules.start_due(engine, at("2026-10-11 22:00+02:00"))) == 1
    assert len(nights_of(engine, archive)) == 2


def test_run_of_a_user_does_not_join_a_night(engine: Engine) -> None:
    archive = scheduled(engine, opens=time(22), closes=time(6), most=2)
    (night,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    assert planned(engine, archive, night) == ["a", "b"]
    archive_id = runs.run_to_plan(engine, night.run_id).archive_id
    assert archive_id is not None
    run = runs.open_run(engine, f"s3://{archive}/", "backfill", archive_id)
    assert run.id != night.run_id
    assert runs.room(engine, run.id) is None

    # Objects of both runs are done once: the night ends with the outcomes that the other run wrote.
    objects = ListedPage(listed(archive_id, "abcdef"))
    page = planning.plan_page(engine, run, objects, chunk_size=8)
    planning.close_plan(engine, page.run)
    (chunk,) = page.chunks
    assert len(chunk.object_version_ids) == 6
    failed = [ledger.Result(id_, "failed", "corrupt", "") for id_ in chunk.object_version_ids]
    ledger.write_results(engine, chunk.chunk_id, failed)
    sent: list[planning.PlannedChunk] = []
    now = at("2026-10-10 23:00+02:00")
    dispatch.publish_waiting(engine, "backfill", now, sent.append)
    (twice,) = [chunk for chunk in sent if len(chunk.object_version_ids) == 2]
    begun = ledger.begin_chunk(engine, twice.chunk_id, twice.delivery)
    assert begun is not None
    assert begun.objects == ()
    ledger.finish_chunk(engine, twice.chunk_id)
    ended = [run_progress(engine, run_id)[0] for run_id in (night.run_id, run.id)]
    assert [(progress.finished, progress.failed) for progress in ended] == [(True, 2), (True, 6)]


def test_night_plans_objects_that_only_a_night_of_another_release_has(engine: Engine) -> None:
    archive = scheduled(engine)
    (first,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    assert planned(engine, archive, first) == list("abcdef")
    with engine.begin() as connection:
        former = connection.execute(
            text(
                "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
                " middle_partition_id, fine_partition_id, manifest, active)"
                " SELECT 'former', 'former', false, coarse_partition_id, middle_partition_id,"
                " fine_partition_id, '{}', false FROM geotag.release WHERE active RETURNING id"
            )
        ).scalar_one()
    change_run(engine, first.run_id, f"release_id = {former}")
    try:
        (second,) = schedules.start_due(engine, at("2026-10-11 22:00+02:00"))
        assert planned(engine, archive, second) == list("abcdef")
    finally:
        active = "(SELECT id FROM geotag.release WHERE active)"
        change_run(engine, first.run_id, f"release_id = {active}")
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM geotag.release WHERE id = :id"), {"id": former})


def test_night_plans_objects_to_retry_from_a_finished_chunk_of_an_earlier_night(
    engine: Engine,
) -> None:
    archive = scheduled(engine)
    (first,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    planned(engine, archive, first)
    finish_one_chunk(engine, first.run_id)
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM geotag.outcome WHERE run_id = :id"), {"id": first.run_id}
        )
    (second,) = schedules.start_due(engine, at("2026-10-11 22:00+02:00"))
    assert planned(engine, archive, second) == ["a", "b"]


def planned(engine: Engine, archive: str, night: schedules.Night) -> list[str]:
    """Plan a night over six objects, as `Planner` does; return the keys of its objects."""
    run = runs.run_to_plan(engine, night.run_id)
    room = runs.room(engine, night.run_id)
    with engine.connect() as connection:
        query = text("SELECT id FROM geotag.archive WHERE name = :name")
        archive_id = connection.execute(query, {"name": archive}).scalar_one()
        page = ListedPage(listed(archive_id, "abcdef"))
        after = planning.plan_page(engine, run, page, chunk_size=2, most=room)
        planning.close_plan(engine, after.run)
        query = text(
            "SELECT v.key FROM geotag.run_object ro"
            " JOIN geotag.object_version v ON v.id = ro.object_version_id"
            " WHERE ro.run_id = :run ORDER BY v.key"
        )
        return list(connection.execute(query, {"run": night.run_id}).scalars())


def test_night_keeps_its_limit_and_leaves_out_objects_of_unfinished_nights(
    engine: Engine,
) -> None:
    archive = scheduled(engine, most=4)
    (first,) = schedules.start_due(engine, at("2026-10-10 22:00+02:00"))
    assert planned(engine, archive, first) == ["a", "b", "c", "d"]
    finish_one_chunk(engine, first.run_id)  # two objects are unfinished and stay in this night
    (second,) = schedules.start_due(engine, at("2026-10-11 22:00+02:00"))
    assert planned(engine, archive, second) == ["e", "f"]
    control.cancel_run(engine, second.run_id, at("2026-10-12 06:00+02:00"))
    (third,) = schedules.start_due(engine, at("2026-10-12 22:00+02:00"))
    assert planned(engine, archive, third) == ["e", "f"]
    assert [
        (night.run_id, night.planned, night.done, night.failed)
        for night in schedules.last_nights(engine, archive, 5)
    ] == [(first.run_id, 4, 2, 2), (second.run_id, 2, 0, 0), (third.run_id, 2, 0, 0)]


def finish_one_chunk(engine: Engine, run_id: int) -> None:
    """Finish the oldest chunk of a run, as a worker does."""
    sent: list[planning.PlannedChunk] = []
    dispatch.publish_waiting(engine, "backfill", BEGIN, sent.append, 1000)
    with engine.connect() as connection:
        query = text("SELECT min(id) FROM geotag.chunk WHERE run_id = :id")
        oldest = connection.execute(query, {"id": run_id}).scalar_one()
    (chunk,) = (chunk for chunk in sent if chunk.chunk_id == oldest)
    ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    failed = [ledger.Result(id_, "failed", "corrupt", "") for id_ in chunk.object_version_ids]
    ledger.write_results(engine, chunk.chunk_id, failed)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE geotag.archive SET paused_at = now() WHERE name = :name",
        "UPDATE geotag.archive SET removed_at = now() WHERE name = :name",
        "UPDATE geotag.schedule SET paused_at = now()",
    ],
)
def test_paused_and_removed_schedules_are_not_due(engine: Engine, change: str) -> None:
    archive = scheduled(engine)
    with engine.begin() as connection:
        connection.execute(text(change), {"name": archive})
    assert schedules.start_due(engine, at("2026-10-20 22:00+02:00")) == []


def test_no_night_starts_without_an_active_release(engine: Engine) -> None:
    archive = scheduled(engine)
    now = at("2026-10-10 22:00+02:00")
    with engine.begin() as connection:
        connection.execute(text("UPDATE geotag.release SET active = false"))
    try:
        assert schedules.start_due(engine, now) == []
    finally:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE geotag.release SET active = true WHERE name = 'untrained'")
            )
    assert len(schedules.start_due(engine, now)) == 1
    assert len(nights_of(engine, archive)) == 1


def test_resumed_schedule_does_not_catch_up(engine: Engine) -> None:
    archive = scheduled(engine)
    schedules.pause(engine, archive, BEGIN)
    now = at("2026-10-20 12:00+02:00")
    assert schedules.resume(engine, archive, now) == at("2026-10-20 22:00+02:00")
    assert schedules.start_due(engine, now) == []


def test_resuming_a_running_schedule_keeps_the_due_night(running: Context, engine: Engine) -> None:
    archive = scheduled(engine)
    now = at("2026-10-10 23:00+02:00")
    with pytest.raises(NotPaused):
        schedules.resume(engine, archive, now)
    with pytest.raises(UsageError, match=f"the schedule of {archive} is not paused"):
        schedule_commands.change(running, archive, "resume")
    assert len(schedules.start_due(engine, now)) == 1


def test_archive_removed_concurrently_is_not_scheduled(engine: Engine) -> None:
    archive = archive_of(engine)
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as removing:
            gone = text("UPDATE geotag.archive SET removed_at = now() WHERE name = :name")
            removing.execute(gone, {"name": archive})
            plan = ScheduleSpec("0 22 * * *", "Europe/Berlin")
            adding = threads.submit(schedules.add, engine, archive, plan, BEGIN)
            until(lambda: adding.done() or someone_waits(removing))
        with pytest.raises(ScheduleRefused, match="no archive"):
            adding.result(60)


def test_readded_archive_has_no_schedule(engine: Engine) -> None:
    archive = scheduled(engine)
    archives.remove(engine, archive)
    assert schedules.schedules(engine, archive) == []
    archives.add(engine, ArchiveRecord(archive, ENDPOINT, archive, allow_private=True))
    assert schedules.start_due(engine, at("2026-10-20 22:00+02:00")) == []


def due_nights(engine: Engine) -> float:
    """Return the number of due schedules, as Prometheus scrapes it."""
    (due,) = [s.value for s in ledger_samples(engine) if s.metric == "geotag_due_schedules"]
    return due


def test_delayed_night_does_not_count_as_due(engine: Engine) -> None:
    scheduled(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE geotag.schedule SET next_at = now() - interval '2 days'"))
        connection.execute(text("UPDATE geotag.release SET active = false"))
    try:
        assert due_nights(engine) == 0
    finally:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE geotag.release SET active = true WHERE name = 'untrained'")
            )
    assert due_nights(engine) == 1
    (night,) = schedules.start_due(engine, dispatch.clock(engine))
    with engine.begin() as connection:
        connection.execute(text("UPDATE geotag.schedule SET next_at = now() - interval '1 hour'"))
    assert due_nights(engine) == 0  # the previous night is still being planned
    change_run(engine, night.run_id, "planned_at = now()")
    assert due_nights(engine) == 1


def test_invalid_schedules_are_refused(engine: Engine) -> None:
    archive = scheduled(engine)
    other = archive_of(engine)
    for name, plan, said in (
        (archive, ScheduleSpec("0 22 * * *", "UTC"), "has a schedule"),
        ("no-such", ScheduleSpec("0 22 * * *", "UTC"), "no archive no-such"),
        (other, ScheduleSpec("0 22 * * *", "UTC", release="no-such"), "no release no-such"),
        (other, ScheduleSpec("whenever", "UTC"), "five fields"),
    ):
        with pytest.raises(ScheduleRefused, match=said):
            schedules.add(engine, name, plan, BEGIN)
    for change in (schedules.pause, schedules.resume):
        with pytest.raises(NotScheduled):
            change(engine, other, BEGIN)
    with pytest.raises(NotScheduled):
        schedules.remove(engine, other)
    schedules.remove(engine, archive)
    assert schedules.schedules(engine, archive) == []


def test_run_of_a_dead_planner_is_planned_by_another(engine: Engine) -> None:
    scheduled(engine)
    now = at("2026-10-10 22:00+02:00")
    (night,) = schedules.start_due(engine, now)
    with runs.plan_lease(engine, night.run_id):
        assert runs.next_plan(engine, now) is None  # it is being planned
    clients = Clients(engine)
    assert until(lambda: ControlLoop(clients).plan(now)) == night.run_id  # once it has ended
    assert clients.plans.planned == {night.run_id: 1}
    assert ControlLoop(clients).plan(now) is None


def test_looking_for_a_run_to_plan_blocks_no_planner(engine: Engine) -> None:
    archive = archives.by_name(engine, archive_of(engine))
    run = runs.open_run(engine, archive.url, "backfill", archive.id)
    given = {"now": dispatch.clock(engine) + timedelta(hours=1)}
    with engine.begin() as looking:
        assert looking.execute(sql("next_plan"), given).scalar_one() == run.id
        with runs.plan_lease(engine, run.id):
            assert looking.execute(sql("next_plan"), given).scalar_one_or_none() is None


def test_failed_planning_records_the_error_and_backs_off(engine: Engine) -> None:
    scheduled(engine)
    now = at("2026-10-10 22:00+02:00")
    (night,) = schedules.start_due(engine, now)
    clients = Clients(engine)
    loop = ControlLoop(clients)
    waits = []
    for _try in range(8):
        clients.plans.fails = ArchiveUnavailable("S3 is away")
        assert until(lambda when=now: loop.plan(when)) == night.run_id
        with engine.connect() as connection:
            query = text("SELECT plan_error, plan_after FROM geotag.run WHERE id = :id")
            run = connection.execute(query, {"id": night.run_id}).one()
        assert run.plan_error == "s3_unavailable: S3 is away"
        assert loop.plan(run.plan_after - timedelta(seconds=1)) is None
        waits.append(run.plan_after - now)
        now = run.plan_after
    assert waits == sorted(waits)
    assert waits[0] == timedelta(minutes=1)
    assert waits[-1] == timedelta(minutes=15)

    clients.plans.fails = ZeroDivisionError("an internal error")
    assert until(lambda: loop.plan(now)) == night.run_id
    scheduled(engine)
    (other,) = schedules.start_due(engine, now)
    clients.plans.fails = None
    assert loop.plan(now) == other.run_id
    assert until(lambda: loop.plan(now + timedelta(hours=1))) == night.run_id


def test_progress_in_planning_clears_its_failures(engine: Engine) -> None:
    scheduled(engine)
    now = at("2026-10-10 22:00+02:00")
    (night,) = schedules.start_due(engine, now)

    def noted() -> tuple[int, str | None, datetime | None]:
        with engine.connect() as connection:
            query = "SELECT plan_tries, plan_error, plan_after FROM geotag.run WHERE id = :id"
            return tuple(connection.execute(text(query), {"id": night.run_id}).one())

    run = runs.run_to_plan(engine, night.run_id)
    assert run.archive_id is not None
    page = ListedPage(listed(run.archive_id, "ab"), cursor={"token": "b"})
    steps: list[Callable[[runs.Run], object]] = [
        lambda run: planning.plan_page(engine, run, page, chunk_size=2),
        lambda run: runs.start_over(engine, run),
        lambda run: planning.close_plan(engine, run),
    ]
    for go_on in steps:
        assert runs.begin_plan(engine, night.run_id, now)
        reason = "s3_unavailable: S3 is away"
        runs.plan_failed(engine, night.run_id, now, reason, now, unavailable=True)
        assert noted()[:2] == (1, "s3_unavailable: S3 is away")
        go_on(runs.run_to_plan(engine, night.run_id))
        assert noted() == (0, None, None)


def test_stopping_planner_leaves_the_run_to_another(engine: Engine) -> None:
    scheduled(engine)
    now = at("2026-10-10 22:00+02:00")
    (night,) = schedules.start_due(engine, now)
    clients = Clients(engine)
    loop = ControlLoop(clients)

    def terminate() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "top_up", terminate)
        patch.setattr(clients.plans, "resume", two_pages(clients.plans))
        loop.plan(now)
    assert clients.plans.planned == {}
    assert until(lambda: loop.plan(now)) == night.run_id
    assert clients.plans.planned == {night.run_id: 1}


def two_pages(planner: Planner) -> Callable[..., None]:
    """Return a `resume` that also publishes after its first page."""
    resume = planner.resume

    def plan(run_id: int, *, publish: Callable[[], object]) -> None:
        publish()
        resume(run_id, publish=publish)

    return plan


def test_tick_starts_nights_while_the_broker_is_unavailable(engine: Engine) -> None:
    archive = scheduled(engine)
    clients = Clients(engine)

    def raise_unavailable(_now: datetime) -> None:
        raise BrokerUnavailable("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "round", raise_unavailable)
        with pytest.raises(BrokerUnavailable):
            ControlLoop(clients).tick(at("2026-10-10 22:00+02:00"))
    assert len(nights_of(engine, archive)) == 1
