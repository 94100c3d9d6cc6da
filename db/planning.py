"""From listed objects to chunks that wait for a worker.

A run is planned page by page. A page is one transaction: the objects, the chunks, and where the
listing goes on. So its memory is flat in the number of objects, and whoever finds a run whose
planner died goes on after the last page. Nothing is sent from here: see `published_at`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import bindparam

from db.copy import stage
from db.engine import sql

Cursor = dict[str, Any]
"""Where a listing goes on: JSON that only its source understands."""

_NO_FAILURE = "plan_tries = 0, plan_after = NULL, plan_error = NULL"
"""Planning has got on: what `db.schedules.plan_failed` noted is over."""


@dataclass(frozen=True)
class ListedObject:
    """An object as an archive lists it; `etag` without quotes, `size` in bytes."""

    archive_id: int
    key: str
    etag: str
    size: int
    last_modified: datetime | None


@dataclass(frozen=True)
class ListedPage:
    """Objects of a listing, how many of it were left out, and where it goes on after them.

    `left_out` are the keys of those left out, where the listing is of one archive: they are there,
    so that what the ledger knows of them has not vanished.
    """

    objects: Sequence[ListedObject]
    skipped: int = 0
    cursor: Cursor | None = None
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to publish: its objects travel in one message; a stale `delivery` is dropped."""

    chunk_id: int
    delivery: int
    object_version_ids: tuple[int, ...]


@dataclass(frozen=True)
class Totals:
    """What a listing has come to so far, in objects, each counted once.

    Args:
        listed: photographs.
        skipped: left out, as no photographs or by the archive's globs.
        done_before: had an outcome already.
        failed_before: of those, failed or quarantined.
        appeared: were not known before.
        changed: were known with another ETag.
    """

    listed: int = 0
    skipped: int = 0
    done_before: int = 0
    failed_before: int = 0
    appeared: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Run:
    """A run and how far its planning is; `cursor` None is the beginning of its listing."""

    id: int
    source: str
    queue: str
    archive_id: int | None
    created_at: datetime
    pages: int
    cursor: Cursor | None
    totals: Totals


@dataclass(frozen=True)
class PlannedPage:
    """What one page of a listing came to: the run after it, and the chunks it was cut into."""

    run: Run
    chunks: tuple[PlannedChunk, ...]


@dataclass(frozen=True)
class Whole:
    """A listing that names everything below a prefix of an archive as it was at a time."""

    archive_id: int
    prefix: str
    as_of: datetime


class NoActiveRelease(Exception):
    """No release is registered and active: nothing can be asked."""


class PlannedElsewhere(Exception):
    """Another process plans this run."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"run {run_id} is planned by another process")
        self.run_id = run_id


class RunStopped(Exception):
    """The run was cancelled, or its archive paused or removed: nothing more is planned for it."""


def open_run(engine: Engine, source: str, queue: str, archive_id: int | None = None) -> Run:
    """The unfinished run of this source for the active release, or a new one.

    Asking again for what is under way joins it instead of doing it twice. A run that is not planned
    to its end goes on where it is; one that is, and whose chunks are not all finished, is listed
    again from the start. A cancelled run is not joined, nor is a night: what two runs hold is done
    once, since the first outcome of an object stands.

    Raises:
        NoActiveRelease: no release is active.
        RunStopped: the run was cancelled at this moment.
    """
    with engine.begin() as connection:
        release_id = connection.execute(
            text("SELECT id FROM geotag.release WHERE active")
        ).scalar_one_or_none()
        if release_id is None:
            raise NoActiveRelease
        # Two planners of one source at the same moment must end with one run.
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
            _from_the_start(connection, run_id)
        return _run(connection, run_id)


def start_over(engine: Engine, run: Run) -> Run:
    """The run, to be listed again from the start: its figures are those of the newest listing.

    Raises:
        PlannedElsewhere: another planner has gone on with the run, or ended its listing.
        RunStopped: it was cancelled.
    """
    with engine.begin() as connection:
        _take(connection, run)
        _from_the_start(connection, run.id)
        return _run(connection, run.id)


def _from_the_start(connection: Connection, run_id: int) -> None:
    zero = ", ".join(f"{field.name} = 0" for field in fields(Totals))
    begun = connection.execute(
        text(
            f"UPDATE geotag.run SET {zero}, {_NO_FAILURE},"
            " pages = pages + 1, cursor = NULL, planned_at = NULL"
            " WHERE id = :id AND cancelled_at IS NULL"
        ),
        {"id": run_id},
    )
    if not begun.rowcount:
        raise RunStopped
    connection.execute(text("DELETE FROM geotag.run_seen WHERE run_id = :id"), {"id": run_id})


def run_to_plan(engine: Engine, run_id: int) -> Run:
    """A run and how far its planning is."""
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
    """Raise RunStopped if the run was cancelled, or its archive is paused or removed."""
    with engine.connect() as connection:
        if connection.execute(sql("is_stopped"), {"run_id": run_id}).scalar_one():
            raise RunStopped


def room(engine: Engine, run_id: int) -> int | None:
    """How many more objects the run may hold; None is any number."""
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


@contextmanager
def plan_hold(engine: Engine, run_id: int) -> Iterator[None]:
    """Hold a run's planning for as long as this process lives, or until the block is left.

    It is there so that the work is not done twice, and so that others see that a planner died;
    that nothing is *recorded* twice, each page sees to itself.

    Raises:
        PlannedElsewhere: another process holds it.
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
            # Ends the session, and the lock with it, on a broken connection too.
            connection.invalidate()


def _take(connection: Connection, run: Run) -> None:
    """Lock the row of a run whose planning is to go on from where we know it to be.

    Raises:
        PlannedElsewhere: another planner has gone on with it, or ended its listing.
        RunStopped: it was cancelled.
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


def plan_page(
    engine: Engine,
    run: Run,
    page: ListedPage,
    *,
    chunk_size: int,
    as_of: datetime | None = None,
    most: int | None = None,
) -> PlannedPage:
    """Record a page of listed objects and cut what has no outcome into chunks.

    Args:
        engine: of the ledger.
        run: as the page before left it.
        page: at most a few thousand objects; of one key listed twice, the last counts.
        chunk_size: objects in a chunk, at most.
        as_of: when the listing was made, if that is not now; what is known since is not undone.
        most: objects cut into chunks, at most.

    Raises:
        PlannedElsewhere: another planner has gone on with the run, or ended its listing.
        RunStopped: it was cancelled.
    """
    newest = {(entry.archive_id, entry.key): entry for entry in page.objects}
    with engine.begin() as connection:
        _take(connection, run)
        for archive_id in sorted({archive_id for archive_id, _key in newest}):
            _one_planner_at_a_time(connection, archive_id)
        _stage_listed(connection, list(newest.values()))
        if as_of is not None:
            connection.execute(sql("drop_outdated_listed"), {"as_of": as_of})
        changed = connection.execute(sql("supersede_objects")).rowcount
        appeared = connection.execute(sql("insert_objects")).scalar_one()
        rows = connection.execute(sql("pending_of_listed"), {"run_id": run.id}).all()
        if page.left_out:
            stage(connection, {"key": "text"}, ((key,) for key in page.left_out), name="left_out")
            connection.execute(sql("see_left_out"), {"run_id": run.id})
        pending = [row.object_version_id for row in rows if not row.done and not row.planned]
        done = [row.done for row in rows if row.done and not row.planned]
        chunks = cut(connection, run.id, pending[:most], chunk_size)
        after = replace(
            run,
            pages=run.pages + 1,
            cursor=page.cursor,
            totals=Totals(
                listed=run.totals.listed + len(rows),
                skipped=run.totals.skipped + page.skipped,
                done_before=run.totals.done_before + len(done),
                failed_before=run.totals.failed_before
                + sum(state in ("failed", "quarantined") for state in done),
                appeared=run.totals.appeared + appeared,
                changed=run.totals.changed + changed,
            ),
        )
        _note(connection, after)
    return PlannedPage(after, chunks)


def _one_planner_at_a_time(connection: Connection, archive_id: int) -> None:
    """Until the transaction ends: which version of a key is current, and which chunk has it."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.archive:' || :id, 0))"),
        {"id": str(archive_id)},
    )


def _note(connection: Connection, run: Run) -> None:
    """Write how far a run's planning is."""
    totals = asdict(run.totals)
    changes = ", ".join(f"{name} = :{name}" for name in totals)
    statement = text(
        f"UPDATE geotag.run SET {changes}, {_NO_FAILURE}, pages = :pages, cursor = :cursor"
        " WHERE id = :id"
    ).bindparams(bindparam("cursor", type_=JSONB(none_as_null=True)))
    connection.execute(
        statement, {**totals, "pages": run.pages, "cursor": run.cursor, "id": run.id}
    )


def _stage_listed(connection: Connection, objects: Sequence[ListedObject]) -> None:
    stage(
        connection,
        {
            "archive_id": "int",
            "key": "text",
            "etag": "text",
            "size": "bigint",
            "last_modified": "timestamptz",
        },
        ((o.archive_id, o.key, o.etag, o.size, o.last_modified) for o in objects),
        name="listed",
    )
    # A new table has no statistics, and a wrong guess reads all of the archive for every page.
    connection.execute(text("ANALYZE pg_temp.listed"))


def cut(
    connection: Connection, run_id: int, object_version_ids: Sequence[int], size: int
) -> tuple[PlannedChunk, ...]:
    """New chunks of a run that hold these objects, each chunk of one archive.

    An object that another chunk of the run holds moves.
    """
    if not object_version_ids:
        return ()
    rows = connection.execute(
        sql("cut_chunks"), {"run_id": run_id, "ids": list(object_version_ids), "size": size}
    )
    return tuple(PlannedChunk(row.chunk_id, 1, tuple(row.object_ids)) for row in rows)


def split_chunk(engine: Engine, chunk_id: int) -> None:
    """Move a chunk's objects that have no outcome into chunks of one object each.

    Asked for when a worker died in the chunk: whichever object did it then dies alone. The parts
    wait to be published, as new chunks do.
    """
    with engine.begin() as connection:
        run_id = connection.execute(
            text("SELECT run_id FROM geotag.chunk WHERE id = :id FOR UPDATE"), {"id": chunk_id}
        ).scalar_one()
        rows = connection.execute(sql("begin_chunk"), {"chunk_id": chunk_id}).all()
        cut(connection, run_id, [row.object_version_id for row in rows], 1)


def close_plan(engine: Engine, run: Run, whole: Whole | None = None) -> int:
    """Say that the run's listing is complete: it is finished when its last chunk is.

    Args:
        engine: of the ledger.
        run: as its last page left it.
        whole: what the listing covers, if it names everything there: objects that it lacks, and
            that were there before, have vanished.

    Returns:
        How many objects have vanished.

    Raises:
        PlannedElsewhere: another planner has gone on with the run, or ended its listing.
        RunStopped: it was cancelled.
    """
    with engine.begin() as connection:
        _take(connection, run)
        vanished = 0
        if whole is not None:
            _one_planner_at_a_time(connection, whole.archive_id)
            vanished = connection.execute(
                sql("vanish_objects"), {"run_id": run.id, **asdict(whole)}
            ).rowcount
        connection.execute(
            text(
                f"UPDATE geotag.run SET planned_at = now(), vanished = :vanished, {_NO_FAILURE},"
                " pages = pages + 1 WHERE id = :id"
            ),
            {"id": run.id, "vanished": vanished},
        )
        # Of cancelled runs too.
        connection.execute(
            text(
                "DELETE FROM geotag.run_seen s USING geotag.run r"
                " WHERE r.id = s.run_id AND r.planned_at IS NOT NULL"
            )
        )
        return vanished
