"""Leases on chunks and contents, as PostgreSQL advisory locks.

A lease ends with its session, so a dead worker never blocks a chunk.
"""

import threading
from dataclasses import dataclass

from sqlalchemy import Engine, text


@dataclass(frozen=True)
class Claim:
    """Whether this process has the lease on some bytes, and the state of their geotag, if any."""

    leased: bool
    state: str | None


class ChunkLeasedElsewhere(Exception):
    """Another process has the chunk's lease."""


class Lease:
    """This process's lease on a chunk, and on the contents that it is about to have inferred.

    It consists of advisory locks of one database session, which needs a connection of its own: a
    pooler in transaction mode breaks it. It ends with the process, so nobody waits for a time-out
    to learn that a worker is dead. Threads may share it.

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
            self.release()
            raise
        if not locked:
            self._connection.close()
            raise ChunkLeasedElsewhere

    def claim(self, sha256: bytes, release: str) -> Claim:
        """Lease some bytes for inference under a release, unless another chunk has the lease."""
        with self._one_at_a_time:
            if self._connection.closed:  # the chunk was handed back with this object in flight
                return Claim(leased=False, state=None)
            # Lock before reading: the last holder has written its geotag by then. A lock that is
            # taken twice would have to be released twice, so each is taken once a chunk.
            lock = f"geotag.content:{release}:{sha256.hex()}"
            if lock not in self._claimed and not self._lock(lock):
                return Claim(leased=False, state=None)
            self._claimed.add(lock)
            state = self._connection.execute(
                text(
                    "SELECT g.state FROM geotag.geotag g"
                    " JOIN geotag.release r ON r.id = g.release_id"
                    " WHERE g.sha256 = :sha256 AND r.name = :release"
                ),
                {"sha256": sha256, "release": release},
            ).scalar_one_or_none()
        return Claim(leased=True, state=state)

    def release_contents(self) -> None:
        """Release the leases on contents, once their geotags are written."""
        with self._one_at_a_time:
            for lock in self._claimed:
                self._connection.execute(
                    text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": lock}
                )
            self._claimed.clear()

    def release(self) -> None:
        """End the session, and the lease with it; this works on a broken connection too."""
        self._connection.invalidate()
        self._connection.close()

    def _lock(self, name: str) -> bool:
        return bool(
            self._connection.execute(
                text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name}
            ).scalar_one()
        )
