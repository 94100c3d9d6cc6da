"""From listed objects to chunks that wait for a worker.

A run is planned page by page. A page is one transaction: the objects, the chunks, and where the
listing goes on. So its memory is flat in the number of objects, and whoever finds a run whose
planner died goes on after the last page. Nothing is sent from here: see `published_at`.
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
    """Objects of a listing, how many of it were left out, and where it goes on after them.

    `left_out` are the keys of those left out, where the listing is of one archive: they are there,
    so that what the ledger knows of them has not vanished. `unreadable` has the reason for each of
    the objects, by archive and key, that could not be looked at. The ledger keeps what it knows.
    """

    objects: Sequence[ArchiveObject]
    skipped: int = 0
    cursor: Cursor | None = None
    left_out: Sequence[str] = ()
    unreadable: Mapping[tuple[int, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to publish: its objects travel in one message; a stale `delivery` is dropped."""

    chunk_id: int
    delivery: int
    object_version_ids: tuple[int, ...]


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
                f"unreadable: {count} objects cannot be looked at, and what is known of them"
                f" stands; the last of them: {last}",
            )
    return PlannedPage(after, chunks)


def _hold_archive(connection: Connection, archive_id: int) -> None:
    """Have one planner at a time decide, until its transaction ends, what of an archive is current.

    And which chunk has it. Always after the run's row (`take`), and by ascending id: planners that
    lock in one order cannot lock each other out.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.archive:' || :id, 0))"),
        {"id": str(archive_id)},
    )


def _note(connection: Connection, run: Run) -> None:
    """Write how far a run's planning is."""
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
    # A new table has no statistics, and a wrong guess reads all of the archive for every page.
    connection.execute(text("ANALYZE pg_temp.listed"))
    if unreadable:
        connection.execute(sql("drop_unreadable"))
        connection.execute(sql("keep_unreadable"))


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


def close_plan(
    engine: Engine, run: Run, whole: Whole | None = None, *, most_vanished: float = 1.0
) -> int:
    """Say that the run's listing is complete: it is finished when its last chunk is.

    Args:
        engine: of the ledger.
        run: as its last page left it.
        whole: what the listing covers, if it names everything there: objects that it lacks, and
            that were there before, have vanished.
        most_vanished: the share of the archive's objects that may vanish at once. If more are
            missing, and more than a hundred, none is marked and the run records a warning.

    Returns:
        How many objects have vanished.

    Raises:
        PlannedElsewhere: another planner has gone on with the run, or ended its listing.
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
        # Of cancelled runs too.
        connection.execute(
            text(
                "DELETE FROM geotag.run_seen s USING geotag.run r"
                " WHERE r.id = s.run_id AND r.planned_at IS NOT NULL"
            )
        )
        return vanished


def _vanish(connection: Connection, run: Run, whole: Whole, most_vanished: float) -> int:
    """Mark what a complete listing lacks as vanished, unless that is too much; returns how many."""
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
