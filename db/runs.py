"""Runs: the progress of each run's planning, its lease, its tries, and which run is planned next.

A run is a source to be listed for one release. Its planner (`db.planning`) has the run's lease, and
locks the run's row before each step, so that a planner that lost its lease records nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from db.engine import sql

Cursor = dict[str, Any]
"""Position at which a listing resumes: JSON that only its source understands."""

PLAN_TRIES = 5
"""Tries of a run's planning in a row that may fail, or die, before it is parked."""

UNAVAILABLE_TRIES = 100
"""Tries in a row that unavailable services may end: about a day, at one in 15 minutes."""

NO_FAILURE = (
    "plan_tries = CAST(plan_began_at IS NOT NULL AS int),"
    " plan_faults = CAST(plan_began_at IS NOT NULL AS int),"
    " plan_after = NULL, plan_error = NULL, parked_at = NULL"
)
"""Assignments for a run whose planning has made progress: a try that goes on is its first again."""

_LONGEST_REASON = 2000  # characters


@dataclass(frozen=True)
class Totals:
    """Counts of a listing's objects so far; each object counts once.

    Args:
        listed: photographs.
        skipped: left out: no photographs, or excluded by the archive's globs.
        done_before: had an outcome already.
        failed_before: of those, failed or quarantined.
        appeared: were not known before.
        changed: were known with another ETag.
        unreadable: could not be read. Their known versions stay current.
    """

    listed: int = 0
    skipped: int = 0
    done_before: int = 0
    failed_before: int = 0
    appeared: int = 0
    changed: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Run:
    """A run and the progress of its planning; `cursor` None is the start of its listing."""

    id: int
    source: str
    queue: str
    archive_id: int | None
    created_at: datetime
    pages: int
    cursor: Cursor | None
    totals: Totals


class NoActiveRelease(Exception):
    """No release is registered and active."""


class PlannedElsewhere(Exception):
    """Another process is planning this run."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"run {run_id} is planned by another process")
        self.run_id = run_id


class RunStopped(Exception):
    """The run was cancelled, or its archive paused or removed; its planning ends."""


def open_run(engine: Engine, source: str, queue: str, archive_id: int | None = None) -> Run:
    """Return the unfinished run of this source for the active release, or a new one.

    A run whose listing is not complete resumes at its cursor. A run whose listing is complete, and
    whose chunks are not all finished, is listed again from the start. Cancelled runs and nights are
    not joined. An object of two runs is processed once, since its first outcome stands.

    Raises:
        NoActiveRelease: no release is active.
        PlannedElsewhere: the run's listing is complete, but its planner still publishes.
        RunStopped: the run has been cancelled.
    """
    with engine.begin() as connection:
        release_id = connection.execute(
            text("SELECT id FROM geotag.release WHERE active")
        ).scalar_one_or_none()
        if release_id is None:
            raise NoActiveRelease
        # Two concurrent planners of one source must get the same run.
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.run:' || :source, 0))"),
            {"source": source},
        )
        given = {
            "source": source,
            "queue": queue,
            "release_id": release_id,
            "archive_id": archive_id,
        }
        found = connection.execute(sql("unfinished_run"), given).one_or_none()
        if found is None:
            run_id = connection.execute(
                text(
                    "INSERT INTO geotag.run (source, queue, release_id, archive_id)"
                    " VALUES (:source, :queue, :release_id, :archive_id) RETURNING id"
                ),
                given,
            ).scalar_one()
            return _run(connection, run_id)
        run_id = found.id
        if found.planned_at is not None:
            _not_held(connection, run_id)
            _from_the_start(connection, run_id)
        return _run(connection, run_id)


def start_over(engine: Engine, run: Run) -> Run:
    """Reset a run to the start of its listing and return it; its counts start at zero.

    Raises:
        PlannedElsewhere: another planner has recorded a page of the run, or completed it.
        RunStopped: it was cancelled.
    """
    with engine.begin() as connection:
        take(connection, run)
        _from_the_start(connection, run.id)
        return _run(connection, run.id)


def _not_held(connection: Connection, run_id: int) -> None:
    """Raise PlannedElsewhere if a planner has the run's lease: only its planner may reset it."""
    if not connection.execute(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended('geotag.plan:' || :id, 0))"),
        {"id": str(run_id)},
    ).scalar_one():
        raise PlannedElsewhere(run_id)


def _from_the_start(connection: Connection, run_id: int) -> None:
    zero = ", ".join(f"{field.name} = 0" for field in fields(Totals))
    begun = connection.execute(
        text(
            f"UPDATE geotag.run SET {zero}, {NO_FAILURE}, plan_warning = NULL,"
            " pages = pages + 1, cursor = NULL, planned_at = NULL"
            " WHERE id = :id AND cancelled_at IS NULL"
        ),
        {"id": run_id},
    )
    if not begun.rowcount:
        raise RunStopped
    connection.execute(text("DELETE FROM geotag.run_seen WHERE run_id = :id"), {"id": run_id})


def run_to_plan(engine: Engine, run_id: int) -> Run:
    """Return a run and the progress of its planning."""
    with engine.connect() as connection:
        return _run(connection, run_id)


def _run(connection: Connection, run_id: int) -> Run:
    row = connection.execute(text("SELECT * FROM geotag.run WHERE id = :id"), {"id": run_id}).one()
    return Run(
        id=row.id,
        source=row.source,
        queue=row.queue,
        archive_id=row.archive_id,
        created_at=row.created_at,
        pages=row.pages,
        cursor=row.cursor,
        totals=Totals(**{field.name: getattr(row, field.name) for field in fields(Totals)}),
    )


def may_go_on(engine: Engine, run_id: int) -> None:
    """Raise RunStopped if the run was cancelled, or its archive paused or removed."""
    with engine.connect() as connection:
        if connection.execute(sql("is_stopped"), {"run_id": run_id}).scalar_one():
            raise RunStopped


def room(engine: Engine, run_id: int) -> int | None:
    """Return how many more objects the run may have; None is no limit."""
    with engine.connect() as connection:
        most: int | None = connection.execute(
            text("SELECT most FROM geotag.run WHERE id = :id"), {"id": run_id}
        ).scalar_one()
        if most is None:
            return None
        held: int = connection.execute(
            text("SELECT count(*) FROM geotag.run_object WHERE run_id = :id"), {"id": run_id}
        ).scalar_one()
    return max(0, most - held)


def next_plan(engine: Engine, now: datetime) -> int | None:
    """Return a run whose planning is incomplete and that no planner has a lease on.

    Records the planners that have died since it was last asked, and parks the runs that killed too
    many of them.
    """
    with engine.begin() as connection:
        connection.execute(sql("note_dead_planners"), {"now": now, "most": PLAN_TRIES})
        found = connection.execute(sql("next_plan"), {"now": now}).scalar_one_or_none()
        return None if found is None else int(found)


def begin_plan(engine: Engine, run_id: int, now: datetime) -> bool:
    """Count a try of a run's planning before it begins; False if it is not to be planned now.

    The caller has the run's lease. A try that neither `plan_ended` nor `plan_failed` ends counts as
    the death of its planner.
    """
    with engine.begin() as connection:
        return bool(connection.execute(sql("begin_plan"), {"id": run_id, "now": now}).rowcount)


def plan_ended(engine: Engine, run_id: int, began: datetime) -> None:
    """End a try that did not fail: the listing is complete, or the planner was told to stop.

    Args:
        engine: of the ledger.
        run_id: the run.
        began: when the try began (`begin_plan`). A later try, by another planner, goes on.
    """
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE geotag.run SET plan_began_at = NULL, plan_after = NULL,"
                " plan_tries = greatest(plan_tries - 1, 0),"
                " plan_faults = greatest(plan_faults - 1, 0)"
                " WHERE id = :id AND plan_began_at = :began"
            ),
            {"id": run_id, "began": began},
        )


def plan_failed(
    engine: Engine,
    run_id: int,
    began: datetime,
    reason: str,
    now: datetime,
    *,
    unavailable: bool = False,
) -> datetime | None:
    """End a try that failed, and record why.

    Args:
        engine: of the ledger.
        run_id: the run.
        began: when the try began (`begin_plan`).
        reason: `code: sentence`.
        now: when planning failed.
        unavailable: a service did not answer, which is no fault of the run.

    Returns:
        When to try again, at most 15 minutes on; None if the run is parked.

    Raises:
        PlannedElsewhere: this planner was taken for dead, and the run is left to another.
    """
    given = {
        "id": run_id,
        "began": began,
        "reason": _storable(reason),
        "now": now,
        "unavailable": unavailable,
        "most_faults": PLAN_TRIES,
        "most_tries": UNAVAILABLE_TRIES,
    }
    with engine.begin() as connection:
        row = connection.execute(sql("plan_failed"), given).one_or_none()
    if row is None:
        raise PlannedElsewhere(run_id)
    return None if row.parked_at is not None else row.plan_after


def _storable(reason: str) -> str:
    """Return a message that PostgreSQL accepts: shortened, without NUL and lone surrogates."""
    readable = reason[:_LONGEST_REASON].replace("\0", "\\0")
    return readable.encode("utf-8", "backslashreplace").decode("utf-8")


def parked(engine: Engine) -> list[tuple[int, str]]:
    """Return the runs whose planning was given up, oldest first, each with the reason."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT id, plan_error FROM geotag.run"
                " WHERE planned_at IS NULL AND parked_at IS NOT NULL ORDER BY id"
            )
        )
        return [(row.id, row.plan_error or "") for row in rows]


@contextmanager
def plan_lease(engine: Engine, run_id: int) -> Iterator[None]:
    """Take the lease of a run's planning, until the block is left or this process dies.

    The lease avoids double work and shows whether the planner lives. It is not what prevents double
    records: `take` does, for each page.

    Raises:
        PlannedElsewhere: another process has the lease.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        held = connection.execute(
            text("SELECT pg_try_advisory_lock(hashtextextended('geotag.plan:' || :id, 0))"),
            {"id": str(run_id)},
        ).scalar_one()
        if not held:
            raise PlannedElsewhere(run_id)
        try:
            yield
        finally:
            # Ends the session and its lock, also if the connection is broken.
            connection.invalidate()


def take(connection: Connection, run: Run) -> None:
    """Lock a run's row for the next page, if the run is where this planner left it.

    Raises:
        PlannedElsewhere: another planner has recorded a page of the run, or completed it.
        RunStopped: the run was cancelled.
    """
    now = connection.execute(
        text(
            "SELECT pages, planned_at, cancelled_at FROM geotag.run"
            " WHERE id = :id FOR NO KEY UPDATE"
        ),
        {"id": run.id},
    ).one()
    if now.cancelled_at is not None:
        raise RunStopped
    if now.planned_at is not None or now.pages != run.pages:
        raise PlannedElsewhere(run.id)
