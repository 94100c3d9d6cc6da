"""Which chunks lie at the broker: publishing with back-pressure, and taking back.

The ledger is the queue; the broker holds a bounded part of it. A chunk waits with `published_at`
NULL until it is published. It is taken back (`recall`) when its run is paused or closed, and when
its message seems lost: its delivery number rises, so that whatever message there still is of it is
dropped, and it waits again. Nothing here depends on how many publishers there are, or on when one
of them dies: docs/decisions/0005-stale-deliveries.md.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from db.engine import sql
from db.planning import PlannedChunk

MOST_RECALLED = 1000
"""Chunks taken back in one transaction. Each costs an advisory lock, and a server's sessions share
`max_locks_per_transaction * max_connections` of them: 6,400 as PostgreSQL comes."""

# A publisher that hangs at the broker is cut off, and lets the next one in.
_LONGEST_PUBLISHING = "60s"


def clock(engine: Engine) -> datetime:
    """The ledger's time: one clock for all machines."""
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
    """Send the chunks of a queue that wait and may go, and note that the broker has them.

    Args:
        engine: of the ledger.
        queue: `backfill` or `interactive`.
        now: decides which runs are in their window.
        send: puts a chunk's message on the queue. What it raises comes out of here; those that it
            sent before are then sent again some time, and the second message finds nothing to do.
        most: chunks that the broker may hold, those that are there included; None is no limit.

    Returns:
        The chunks sent; 0 where another publisher is at it.
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
    """Two that count what the broker holds at the same moment would both fill it up."""
    return bool(
        connection.execute(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended('geotag.publisher', 0))")
        ).scalar_one()
    )


def recall_closed(engine: Engine, now: datetime) -> int:
    """Take back what is at the broker and may not be, and end the chunks of cancelled runs.

    Returns:
        The chunks taken back. What a worker is at is left to it.
    """
    with engine.begin() as connection:
        given = {"now": now, "most": MOST_RECALLED}
        closed = connection.execute(sql("closed_chunks"), given).scalars().all()
        recalled = _recall(connection, closed)
        connection.execute(sql("close_cancelled"), {"now": now})
    return recalled


def any_overdue(engine: Engine, queue: str, now: datetime, patience: float) -> bool:
    """Whether a chunk was published more than `patience` seconds ago, and nobody is at it."""
    with engine.connect() as connection:
        return any(row.overdue for row in _waiting(connection, queue, now, patience))


def lost_chunks(
    engine: Engine, queue: str, now: datetime, patience: float, messages: int
) -> list[int]:
    """Overdue chunks, the oldest first, as many as messages are missing at the broker.

    A chunk that waits in a long queue is overdue as well, and has its message: that is why the
    broker is asked.

    Args:
        engine: of the ledger.
        queue: `backfill` or `interactive`.
        now: before the broker was asked.
        patience: seconds before a chunk is overdue.
        messages: that the broker had ready in that queue.
    """
    with engine.connect() as connection:
        waiting = _waiting(connection, queue, now, patience)
    missing = max(0, len(waiting) - messages)
    return [row.id for row in waiting if row.overdue][:missing]


def recall(engine: Engine, chunk_ids: Collection[int]) -> int:
    """Take chunks back, but those that a worker is at; how many that were."""
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
