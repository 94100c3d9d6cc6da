"""From listed objects to chunks that wait for a worker.

A run is planned page by page, each page in one transaction, so that its memory is flat in the
number of objects and a planner that dies leaves nothing half done: planning again goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, text

from db.copy import stage
from db.engine import sql

_MOST_LOCKS = 1000
"""Chunks redelivered in one transaction. Each costs an advisory lock, and a server's sessions share
`max_locks_per_transaction * max_connections` of them: 6,400 as PostgreSQL comes."""


@dataclass(frozen=True)
class ListedObject:
    """An object as an archive lists it; `etag` without quotes, `size` in bytes."""

    archive_id: int
    key: str
    etag: str
    size: int
    last_modified: datetime | None


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to publish: its objects travel in one message; a stale `delivery` is dropped."""

    chunk_id: int
    delivery: int
    object_version_ids: tuple[int, ...]


@dataclass(frozen=True)
class Totals:
    """What a listing has come to so far, in objects; `skipped` are no photographs."""

    listed: int = 0
    skipped: int = 0
    done_before: int = 0
    failed_before: int = 0


NOTHING = Totals()
"""What a listing has come to before its first page."""


@dataclass(frozen=True)
class PlannedPage:
    """What one page of a listing came to: chunks to publish, and the totals up to here."""

    chunks: tuple[PlannedChunk, ...]
    totals: Totals


class NoActiveRelease(Exception):
    """No release is registered and active: nothing can be asked."""


def register_archive(engine: Engine, endpoint: str, bucket: str) -> int:
    """The id of the archive for a bucket at an endpoint (`""` is AWS), made where it is missing."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO geotag.archive (name, endpoint, bucket)"
                " VALUES (CASE WHEN EXISTS (SELECT FROM geotag.archive WHERE name = :bucket)"
                " THEN :bucket || ' at ' || :endpoint ELSE :bucket END, :endpoint, :bucket)"
                " ON CONFLICT (endpoint, bucket) DO NOTHING"
            ),
            {"endpoint": endpoint, "bucket": bucket},
        )
        return int(
            connection.execute(
                text("SELECT id FROM geotag.archive WHERE (endpoint, bucket) = (:e, :b)"),
                {"e": endpoint, "b": bucket},
            ).scalar_one()
        )


def open_run(engine: Engine, source: str, queue: str) -> int:
    """The id of the unfinished run of this source for the active release, or of a new one.

    Asking again for what is under way joins it instead of doing it twice.

    Raises:
        NoActiveRelease: no release is active.
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
        found = connection.execute(
            text(
                "SELECT id FROM geotag.run r"
                " WHERE (source, queue, release_id) = (:source, :queue, :release_id)"
                " AND (planned_at IS NULL OR EXISTS (SELECT FROM geotag.chunk c"
                "      WHERE c.run_id = r.id AND c.finished_at IS NULL))"
                " ORDER BY id DESC LIMIT 1"
            ),
            {"source": source, "queue": queue, "release_id": release_id},
        ).scalar_one_or_none()
        if found is not None:
            # It is listed again from the start: its figures are those of the newest listing.
            connection.execute(
                text(
                    "UPDATE geotag.run SET listed = 0, skipped = 0, done_before = 0,"
                    " failed_before = 0, planned_at = NULL WHERE id = :id"
                ),
                {"id": found},
            )
            return int(found)
        return int(
            connection.execute(
                text(
                    "INSERT INTO geotag.run (source, queue, release_id)"
                    " VALUES (:source, :queue, :release_id) RETURNING id"
                ),
                {"source": source, "queue": queue, "release_id": release_id},
            ).scalar_one()
        )


def plan_page(
    engine: Engine,
    run_id: int,
    objects: Sequence[ListedObject],
    *,
    skipped: int,
    chunk_size: int,
    before: Totals = NOTHING,
) -> PlannedPage:
    """Record a page of listed objects and cut what has no outcome into chunks.

    Args:
        engine: of the ledger.
        run_id: the run that they belong to.
        objects: at most a few thousand; of one key listed twice, the last counts.
        skipped: how many listed objects were left out as no photographs.
        chunk_size: objects in a chunk, at most.
        before: what the pages before this one came to.
    """
    newest = {(entry.archive_id, entry.key): entry for entry in objects}
    with engine.begin() as connection:
        # One planner at a time decides which version of a key is current, and which chunk has it.
        for archive_id in sorted({archive_id for archive_id, _key in newest}):
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.archive:' || :id, 0))"),
                {"id": str(archive_id)},
            )
        _stage_listed(connection, list(newest.values()))
        connection.execute(sql("supersede_objects"))
        connection.execute(sql("insert_objects"))
        release_id = connection.execute(
            text("SELECT release_id FROM geotag.run WHERE id = :id"), {"id": run_id}
        ).scalar_one()
        rows = connection.execute(
            sql("pending_of_listed"), {"release_id": release_id, "run_id": run_id}
        ).all()
        pending = [row.object_version_id for row in rows if not row.done and not row.planned]
        done = [row.done for row in rows if row.done and not row.planned]
        totals = Totals(
            listed=before.listed + len(rows),
            skipped=before.skipped + skipped,
            done_before=before.done_before + len(done),
            failed_before=before.failed_before
            + sum(state in ("failed", "quarantined") for state in done),
        )
        _note(connection, run_id, totals)
        return PlannedPage(_cut(connection, run_id, pending, chunk_size), totals)


def _note(connection: Connection, run_id: int, totals: Totals) -> None:
    """Write how far a listing is; of two planners of one run, the one that is further counts."""
    connection.execute(
        text(
            "UPDATE geotag.run SET listed = greatest(listed, :listed),"
            " skipped = greatest(skipped, :skipped),"
            " done_before = greatest(done_before, :done_before),"
            " failed_before = greatest(failed_before, :failed_before) WHERE id = :id"
        ),
        {**asdict(totals), "id": run_id},
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


def _cut(
    connection: Connection, run_id: int, object_version_ids: Sequence[int], size: int
) -> tuple[PlannedChunk, ...]:
    """New chunks of a run that hold these objects, which no chunk of the run holds yet."""
    chunks = []
    for start in range(0, len(object_version_ids), size):
        chunk_id = connection.execute(
            text(
                "INSERT INTO geotag.chunk (run_id, archive_id)"
                " SELECT :run_id, archive_id FROM geotag.object_version WHERE id = :first"
                " RETURNING id"
            ),
            {"run_id": run_id, "first": object_version_ids[start]},
        ).scalar_one()
        chunks.append(PlannedChunk(chunk_id, 1, tuple(object_version_ids[start : start + size])))
    stage(
        connection,
        {"object_version_id": "bigint", "chunk_id": "bigint"},
        ((id_, chunk.chunk_id) for chunk in chunks for id_ in chunk.object_version_ids),
        name="cut",
    )
    connection.execute(
        text(
            "INSERT INTO geotag.run_object (run_id, object_version_id, chunk_id)"
            " SELECT :run_id, object_version_id, chunk_id FROM pg_temp.cut"
            " ON CONFLICT (run_id, object_version_id) DO UPDATE SET chunk_id = excluded.chunk_id"
        ),
        {"run_id": run_id},
    )
    return tuple(chunks)


def split_chunk(engine: Engine, chunk_id: int) -> None:
    """Move a chunk's objects that have no outcome into chunks of one object each.

    Asked for when a worker died in the chunk: whichever object did it then dies alone. The parts
    are not published yet: see `unpublished`.
    """
    with engine.begin() as connection:
        run_id = connection.execute(
            text("SELECT run_id FROM geotag.chunk WHERE id = :id FOR UPDATE"), {"id": chunk_id}
        ).scalar_one()
        rows = connection.execute(sql("begin_chunk"), {"chunk_id": chunk_id}).all()
        _cut(connection, run_id, [row.object_version_id for row in rows], 1)


def unpublished(engine: Engine, chunk_id: int) -> tuple[PlannedChunk, ...]:
    """The chunks of one object in this chunk's run whose messages the broker has not taken yet."""
    with engine.connect() as connection:
        rows = connection.execute(sql("unpublished_chunks"), {"chunk_id": chunk_id}).all()
    return tuple(PlannedChunk(row.id, row.delivery, (row.object_version_id,)) for row in rows)


def close_plan(engine: Engine, run_id: int) -> None:
    """Say that the run's listing is complete: it is finished when its last chunk is."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.run SET planned_at = now() WHERE id = :id"), {"id": run_id}
        )


def redeliver(engine: Engine, run_id: int) -> Iterator[PlannedChunk]:
    """The run's unfinished chunks that no worker holds, each under a new delivery.

    They come in pages, each of one transaction, which is over when its chunks are given out.
    Whatever message of an older delivery still lies in the broker is stale from then on and is
    dropped when it comes up, so that publishing again never does the work twice.
    """
    after = 0
    while True:
        with engine.begin() as connection:
            rows = connection.execute(
                sql("redeliver_chunks"), {"run_id": run_id, "after": after, "most": _MOST_LOCKS}
            ).all()
        if not rows:
            return
        after = rows[-1].id
        for row in rows:
            if row.delivery is not None:
                yield PlannedChunk(row.id, row.delivery, tuple(row.object_ids))


def mark_published(engine: Engine, chunk_ids: Sequence[int]) -> None:
    """Note that the broker has taken the chunks' messages."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.chunk SET published_at = now() WHERE id = ANY(:ids)"),
            {"ids": list(chunk_ids)},
        )
