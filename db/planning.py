"""Record listed objects and cut the pending ones into chunks.

A run is planned page by page. Each page is one transaction: its objects, its chunks, and the cursor
after it. So memory does not grow with the listing, and after a planner's death the next one goes on
with the page after. Chunks are published elsewhere (`workers/broker/publisher.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import bindparam

from db.copy import stage
from db.engine import sql
from db.objects import ArchiveObject
from db.runs import NO_FAILURE, Cursor, Run, Totals, take

_MAY_ALWAYS_VANISH = 100  # objects


@dataclass(frozen=True)
class ListedPage:
    """A page of a listing.

    Args:
        objects: to be recorded.
        skipped: how many listed objects are not among them.
        cursor: where the listing goes on after the page.
        left_out: the keys of the skipped objects, if the listing is of one archive. They exist, so
            they have not vanished.
        unreadable: why an object could not be looked at, by archive and key. What the ledger knows
            of such an object stays.
    """

    objects: Sequence[ArchiveObject]
    skipped: int = 0
    cursor: Cursor | None = None
    left_out: Sequence[str] = ()
    unreadable: Mapping[tuple[int, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to publish as one message. Workers drop a message of an older `delivery`."""

    chunk_id: int
    delivery: int
    object_version_ids: tuple[int, ...]


@dataclass(frozen=True)
class PlannedPage:
    """The run after a page was planned, and the page's chunks."""

    run: Run
    chunks: tuple[PlannedChunk, ...]


@dataclass(frozen=True)
class Whole:
    """The scope of a complete listing: a prefix of an archive at a time."""

    archive_id: int
    prefix: str
    as_of: datetime


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
        run: as the previous page left it.
        page: at most a few thousand objects; if a key is listed twice, the last one counts.
        chunk_size: most objects in a chunk.
        as_of: when the listing was made, if not now. Newer changes in the ledger stay.
        most: most objects that are cut into chunks.

    Raises:
        PlannedElsewhere: another planner has planned a page of the run, or closed it.
        RunStopped: it was cancelled.
    """
    newest = {(entry.archive_id, entry.key): entry for entry in page.objects}
    with engine.begin() as connection:
        take(connection, run)
        planned = {archive_id for archive_id, _key in newest}
        if page.left_out and run.archive_id is not None:
            planned.add(run.archive_id)
        for archive_id in sorted(planned):
            _hold_archive(connection, archive_id)
        _stage_listed(connection, list(newest.values()), page.unreadable)
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
                unreadable=run.totals.unreadable + len(page.unreadable),
            ),
        )
        _note(connection, after)
        if page.unreadable:
            last = list(page.unreadable.values())[-1]
            count = after.totals.unreadable
            _warn(
                connection,
                run.id,
                f"unreadable: {count} objects cannot be read and keep their known versions;"
                f" the last of them: {last}",
            )
    return PlannedPage(after, chunks)


def _hold_archive(connection: Connection, archive_id: int) -> None:
    """Lock an archive's current objects against other planners until the transaction ends.

    Always after the run's row (`take`), and by ascending archive id: one order of locks rules out
    deadlocks.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.archive:' || :id, 0))"),
        {"id": str(archive_id)},
    )


def _note(connection: Connection, run: Run) -> None:
    """Record a run's cursor and totals."""
    totals = asdict(run.totals)
    changes = ", ".join(f"{name} = :{name}" for name in totals)
    statement = text(
        f"UPDATE geotag.run SET {changes}, {NO_FAILURE}, pages = :pages, cursor = :cursor"
        " WHERE id = :id"
    ).bindparams(bindparam("cursor", type_=JSONB(none_as_null=True)))
    connection.execute(
        statement, {**totals, "pages": run.pages, "cursor": run.cursor, "id": run.id}
    )


def _warn(connection: Connection, run_id: int, warning: str) -> None:
    """Record what a run's planning leaves undone, as `code: sentence`."""
    connection.execute(
        text("UPDATE geotag.run SET plan_warning = :warning WHERE id = :id"),
        {"id": run_id, "warning": warning[:2000]},
    )


def _stage_listed(
    connection: Connection,
    objects: Sequence[ArchiveObject],
    unreadable: Mapping[tuple[int, str], str],
) -> None:
    stage(
        connection,
        {
            "archive_id": "int",
            "key": "text",
            "etag": "text",
            "size": "bigint",
            "last_modified": "timestamptz",
            "unreadable": "boolean",
        },
        (
            (
                o.archive_id,
                o.key,
                o.etag,
                o.size,
                o.last_modified,
                (o.archive_id, o.key) in unreadable,
            )
            for o in objects
        ),
        name="listed",
    )
    # Without statistics PostgreSQL may read the whole archive for every page.
    connection.execute(text("ANALYZE pg_temp.listed"))
    if unreadable:
        connection.execute(sql("drop_unreadable"))
        connection.execute(sql("keep_unreadable"))


def cut(
    connection: Connection, run_id: int, object_version_ids: Sequence[int], size: int
) -> tuple[PlannedChunk, ...]:
    """Cut objects into new chunks of a run, each of one archive, and return them.

    An object of another chunk of the run is moved to the new one.
    """
    if not object_version_ids:
        return ()
    rows = connection.execute(
        sql("cut_chunks"), {"run_id": run_id, "ids": list(object_version_ids), "size": size}
    )
    return tuple(PlannedChunk(row.chunk_id, 1, tuple(row.object_ids)) for row in rows)


def split_chunk(engine: Engine, chunk_id: int) -> None:
    """Move a chunk's objects that have no outcome into chunks of one object each.

    For a chunk whose worker died: the object that killed it is then in a chunk by itself. The new
    chunks wait to be published.
    """
    with engine.begin() as connection:
        run_id = connection.execute(
            text("SELECT run_id FROM geotag.chunk WHERE id = :id FOR UPDATE"), {"id": chunk_id}
        ).scalar_one()
        rows = connection.execute(sql("begin_chunk"), {"chunk_id": chunk_id}).all()
        cut(connection, run_id, [row.object_version_id for row in rows], 1)


def close_plan(
    engine: Engine, run: Run, whole: Whole | None = None, *, most_vanished: float = 1.0
) -> int:
    """Record that a run's listing is complete. The run is finished when its last chunk is.

    Args:
        engine: of the ledger.
        run: as its last page left it.
        whole: what the listing covers, if it is complete. Older objects that it lacks are marked as
            vanished.
        most_vanished: the share of the archive's objects that may vanish at once. If more are
            missing, and more than a hundred, none is marked and the run records a warning.

    Returns:
        How many objects were marked.

    Raises:
        PlannedElsewhere: another planner has planned a page of the run, or closed it.
        RunStopped: it was cancelled.
    """
    with engine.begin() as connection:
        take(connection, run)
        vanished = 0
        if whole is not None:
            _hold_archive(connection, whole.archive_id)
            vanished = _vanish(connection, run, whole, most_vanished)
        connection.execute(
            text(
                f"UPDATE geotag.run SET planned_at = now(), vanished = :vanished, {NO_FAILURE},"
                " pages = pages + 1 WHERE id = :id"
            ),
            {"id": run.id, "vanished": vanished},
        )
        # Rows of cancelled runs are deleted as well.
        connection.execute(
            text(
                "DELETE FROM geotag.run_seen s USING geotag.run r"
                " WHERE r.id = s.run_id AND r.planned_at IS NOT NULL"
            )
        )
        return vanished


def _vanish(connection: Connection, run: Run, whole: Whole, most_vanished: float) -> int:
    """Mark what a complete listing lacks as vanished, unless it is too much; return how many."""
    found = connection.execute(
        sql("vanish_objects"),
        {
            "run_id": run.id,
            "least": _MAY_ALWAYS_VANISH,
            "share": most_vanished,
            **asdict(whole),
        },
    ).one()
    if found.vanished < found.missing:
        _warn(
            connection,
            run.id,
            f"vanish_refused: {found.missing} of the archive's {found.there} objects are not in the"
            " listing. Nothing was marked as vanished, because that is more than"
            f" {most_vanished:.0%} at once",
        )
    vanished: int = found.vanished
    return vanished
