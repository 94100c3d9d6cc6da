"""Who is at work on what: holds that end with the process that has them, however it ends."""

import threading
from dataclasses import dataclass

from sqlalchemy import Engine, text


@dataclass(frozen=True)
class Claim:
    """Whether this process may have some bytes inferred, and the state of the geotag they have."""

    held: bool
    state: str | None


class ChunkLeasedElsewhere(Exception):
    """Another process holds the chunk."""


class Lease:
    """This process's hold on a chunk, and on the contents that it is about to have inferred.

    A hold is made of advisory locks of one database session: it ends with the process, however the
    process ends, so nobody ever waits for a time-out to learn that a worker is dead. It needs a
    session of its own (a pooler in transaction mode would break it). Threads may share it.

    Raises:
        ChunkLeasedElsewhere: when it is made.
    """

    def __init__(self, engine: Engine, chunk_id: int) -> None:
        self.chunk_id = chunk_id
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._one_at_a_time = threading.Lock()
        self._claimed: set[str] = set()
        try:
            locked = self._lock(f"geotag.chunk:{chunk_id}")
        except BaseException:
            # A statement may be cancelled after it has locked: the pool must not keep the session.
            self.let_go()
            raise
        if not locked:
            self._connection.close()
            raise ChunkLeasedElsewhere

    def claim(self, sha256: bytes, release: str) -> Claim:
        """Claim some bytes for inference, unless that is done or another chunk is at it."""
        with self._one_at_a_time:
            if self._connection.closed:  # the chunk was handed back with this object under way
                return Claim(held=False, state=None)
            # First the lock, then the look: whoever held it before has written what it found.
            # Once for all that have these bytes: a lock taken twice would have to be undone twice.
            lock = f"geotag.content:{release}:{sha256.hex()}"
            if lock not in self._claimed and not self._lock(lock):
                return Claim(held=False, state=None)
            self._claimed.add(lock)
            state = self._connection.execute(
                text(
                    "SELECT g.state FROM geotag.geotag g"
                    " JOIN geotag.release r ON r.id = g.release_id"
                    " WHERE g.sha256 = :sha256 AND r.name = :release"
                ),
                {"sha256": sha256, "release": release},
            ).scalar_one_or_none()
        return Claim(held=True, state=state)

    def release_contents(self) -> None:
        """Give the claimed contents up, once what was found is written."""
        with self._one_at_a_time:
            for lock in self._claimed:
                self._connection.execute(
                    text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": lock}
                )
            self._claimed.clear()

    def let_go(self) -> None:
        """End the hold, by ending its session: that works on a broken connection too."""
        self._connection.invalidate()
        self._connection.close()

    def _lock(self, name: str) -> bool:
        return bool(
            self._connection.execute(
                text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name}
            ).scalar_one()
        )
