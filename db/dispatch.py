"""Publish chunks with back-pressure, and recall them from the broker.

The ledger is the queue; the broker holds a bounded part of it. A chunk waits with `published_at`
NULL until it is published. It is recalled when its run is paused, cancelled or outside its window,
and when its message seems lost. A recall raises the delivery number, so that workers drop older
messages of the chunk, and the chunk waits again. Any number of publishers may run, and die at any
time: docs/decisions/0005-stale-deliveries.md.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from db.engine import sql
from db.planning import PlannedChunk

MOST_RECALLED = 1000
"""Chunks recalled in one transaction. Each takes an advisory lock, and a server's sessions share
`max_locks_per_transaction * max_connections` locks: 6,400 by default."""

# PostgreSQL ends the transaction of a publisher that hangs at the broker, so that others go on.
_LONGEST_PUBLISHING = "60s"


def clock(engine: Engine) -> datetime:
    """Return the database's time, the one clock for all machines."""
    with engine.connect() as connection:
        found: datetime = connection.execute(text("SELECT now()")).scalar_one()
        return found


def publish_waiting(
    engine: Engine,
    queue: str,
    now: datetime,
    send: Callable[[PlannedChunk], None],
    most: int | None = None,
) -> int:
    """Send the waiting chunks of a queue that may go, and record them as published.

    Args:
        engine: of the ledger.
        queue: `backfill` or `interactive`.
        now: the time that decides which runs are in their window.
        send: puts a chunk's message on the queue. Its exceptions propagate; chunks that were sent
            before are then sent again, and the second message finds nothing to do.
        most: chunks that the broker may hold in all; None is no limit.

    Returns:
        The number of chunks sent; 0 if another publisher is running.
    """
    with engine.begin() as connection:
        if most is not None and not _only_publisher(connection):
            return 0
        connection.execute(
            text(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_PUBLISHING}'")
        )
        given = {"queue": queue, "now": now, "most": most}
        rows = connection.execute(sql("publishable_chunks"), given).all()
        for row in rows:
            send(PlannedChunk(row.id, row.delivery, tuple(row.object_ids)))
        connection.execute(
            text("UPDATE geotag.chunk SET published_at = :now WHERE id = ANY(:ids)"),
            {"now": now, "ids": [row.id for row in rows]},
        )
    return len(rows)


def _only_publisher(connection: Connection) -> bool:
    """Take the publisher's lock; two publishers at once would exceed the limit together."""
    return bool(
        connection.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended('geotag.publisher', 0))")
        ).scalar_one()
    )


def recall_closed(engine: Engine, now: datetime) -> int:
    """Recall chunks that may not be at the broker, and end the chunks of cancelled runs.

    Returns:
        The number of chunks recalled. Chunks that a worker has begun are left to it.
    """
    with engine.begin() as connection:
        given = {"now": now, "most": MOST_RECALLED}
        closed = connection.execute(sql("closed_chunks"), given).scalars().all()
        recalled = _recall(connection, closed)
        connection.execute(sql("close_cancelled"), {"now": now})
    return recalled


def any_overdue(engine: Engine, queue: str, now: datetime, patience: float) -> bool:
    """Return whether a chunk was published over `patience` seconds ago and no worker has it."""
    with engine.connect() as connection:
        return any(row.overdue for row in _waiting(connection, queue, now, patience))


def lost_chunks(
    engine: Engine, queue: str, now: datetime, patience: float, messages: int
) -> list[int]:
    """Return overdue chunks, oldest first, as many as messages are missing at the broker.

    A chunk in a long queue is overdue too although its message is there, so the number of messages
    decides.

    Args:
        engine: of the ledger.
        queue: `backfill` or `interactive`.
        now: a time before the broker was asked.
        patience: seconds before a chunk is overdue.
        messages: the number that the broker had ready in that queue.
    """
    with engine.connect() as connection:
        waiting = _waiting(connection, queue, now, patience)
    missing = max(0, len(waiting) - messages)
    return [row.id for row in waiting if row.overdue][:missing]


def recall(engine: Engine, chunk_ids: Collection[int]) -> int:
    """Recall chunks except those that a worker has begun; return how many."""
    with engine.begin() as connection:
        return _recall(connection, list(chunk_ids)[:MOST_RECALLED])


def _waiting(
    connection: Connection, queue: str, now: datetime, patience: float
) -> Sequence[Row[Any]]:
    given = {"queue": queue, "now": now, "patience": patience}
    return connection.execute(sql("waiting_chunks"), given).all()


def _recall(connection: Connection, chunk_ids: Sequence[int]) -> int:
    if not chunk_ids:
        return 0
    return int(connection.execute(sql("recall_chunks"), {"ids": list(chunk_ids)}).rowcount)
