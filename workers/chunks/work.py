"""Working on one chunk of objects: each to its outcome, or back to the queue.

- An object's permanent error is its outcome, and the rest of the chunk goes on.
- A transient error is tried again within the chunk, with back-off, and recorded in the end.
- While a service is away nothing is counted: the worker waits, then hands the chunk back, and does
  not begin another one before the service answers.
- A worker that is told to stop hands back what it cannot finish in time (shutdown.py).
- A worker that dies leaves open attempts behind. Whoever gets the message next splits the chunk,
  and an object whose workers keep dying ends in quarantine.
"""

import logging
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db import ledger, planning
from db.engine import is_away
from db.leases import ChunkLeasedElsewhere, Lease
from db.ledger import ChunkObject, Result
from workers.chunks.circuit_breaker import Probe
from workers.chunks.context import WorkerContext
from workers.chunks.pipeline import Pipeline, failure
from workers.errors import (
    ArchiveUnavailable,
    ContentBusy,
    InferenceTimeout,
    InferenceUnavailable,
    InternalError,
    LedgerUnavailable,
    ReleaseNotServed,
    RetriesExhausted,
    TransientError,
    WorkerKilled,
    WorkerStopping,
)
from workers.telemetry import metrics
from workers.telemetry.logs import bound, carried

log = logging.getLogger(__name__)
T = TypeVar("T")
Left = list[tuple[ChunkObject, TransientError]]

_HEARTBEAT_SECONDS = 10.0
_POLL_SECONDS = 1.0
_BUSY_SECONDS = 0.2
_LOOKS = 10
_LONGEST_BACKOFF = 8.0


@dataclass(frozen=True)
class End:
    """How work on a message ended.

    Args:
        handed_back: why the message must come again; None where it is done with.
        forgiven: the last attempt that is no sign of a death (`db.ledger.begin_chunk`).
    """

    handed_back: str | None = None
    forgiven: int = 0


DONE = End()


def work_chunk(place: WorkerContext, chunk_id: int, delivery: int, forgiven: int) -> End:
    """Work on a chunk's message: `delivery` and `forgiven` are what it says."""
    try:
        hold = patiently(place, lambda: Lease(place.engine, chunk_id))
    except ChunkLeasedElsewhere:
        # Valkey delivers a long chunk twice. Should its holder die, this message is the one that
        # is left, so it must not be dropped.
        place.deadline.sleep(_POLL_SECONDS * random.uniform(2, 4))
        return End("another worker holds it", forgiven)
    except LedgerUnavailable as error:
        return End(error.message, forgiven)
    try:
        chunk = patiently(
            place, lambda: ledger.begin_chunk(place.engine, chunk_id, delivery, forgiven)
        )
        if chunk is None:
            return DONE
        ids = {"run": chunk.run_id, "archive": chunk.archive.name}
        with bound(**ids), metrics.CHUNKS.track_inprogress():
            return _work_begun(place, hold, chunk)
    except LedgerUnavailable as error:
        return End(error.message, forgiven)
    finally:
        hold.let_go()


def _work_begun(place: WorkerContext, hold: Lease, chunk: ledger.Chunk) -> End:
    metrics.CRASHES.inc(bool(chunk.killed))
    if len(chunk.objects) > 1 and any(obj.kills for obj in chunk.objects):
        log.warning("chunk %d killed a worker: its objects go on one by one", hold.chunk_id)
        # The parts wait in the ledger, as all chunks do, until a publisher sends them.
        patiently(place, lambda: planning.split_chunk(place.engine, hold.chunk_id))
        chunk = replace(chunk, objects=())
    if not chunk.objects:
        patiently(place, lambda: ledger.finish_chunk(place.engine, hold.chunk_id))
        return DONE
    return _ChunkWork(place, hold, chunk).run()


def record_fault(place: WorkerContext, chunk_id: int, delivery: int, error: Exception) -> None:
    """Record a fault of ours that ended a chunk for those of its objects that have no outcome.

    Nothing is recorded where another worker has begun the chunk meanwhile: the outcomes are its.
    """
    hold = _hold_again(place, chunk_id)
    if hold is None:
        log.warning("chunk %d: another worker holds it, and goes on with it", chunk_id)
        return
    try:
        chunk = ledger.begin_chunk(place.engine, chunk_id, delivery, sys.maxsize)
        internal = InternalError(f"{type(error).__name__}: {error}")
        results = [failure(obj, internal) for obj in chunk.objects] if chunk else []
        ledger.write_results(place.engine, chunk_id, results)
    finally:
        hold.let_go()


def _hold_again(place: WorkerContext, chunk_id: int) -> Lease | None:
    """A hold, once the session of our last one has ended; None where another worker's goes on."""
    for _look in range(_LOOKS):
        try:
            return Lease(place.engine, chunk_id)
        except ChunkLeasedElsewhere:
            place.deadline.sleep(_BUSY_SECONDS)
    return None


def patiently(place: WorkerContext, ask: Callable[[], T]) -> T:
    """Ask the ledger, waiting while it is away.

    Raises:
        LedgerUnavailable: it stayed away for longer than the patience that the settings grant, or
            than this process may go on.
    """
    until = time.monotonic() + place.settings.patience
    while True:
        try:
            return ask()
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            if time.monotonic() >= until or place.deadline.passed():
                raise LedgerUnavailable("the database is away") from error
        place.deadline.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))


class _ChunkWork:
    """The objects of one chunk on their way; `todo` have no result yet."""

    def __init__(self, place: WorkerContext, hold: Lease, chunk: ledger.Chunk) -> None:
        self.place = place
        self.hold = hold
        self.release = chunk.release
        self.locator = place.locator(chunk.release, chunk.digest)
        self.archive = place.archives.of(chunk.archive)
        self.todo = list(chunk.objects)
        self.results: list[Result] = []
        self.last_attempt = 0
        self.busy = 0
        self.pipeline = Pipeline(
            place.settings,
            self.archive,
            self.locator,
            self._claim,
            place.code_version,
        )

    def run(self) -> End:
        """Work until each object has an outcome, or is handed back."""
        self._quarantine()
        if not self.place.away.all_back({self.locator.ready, self.archive.reachable}, self._beat):
            return End("what it needs is still away")
        try:
            self.last_attempt = patiently(self.place, self._open_attempts)
            return self._run()
        except LedgerUnavailable as error:
            return End(error.message, self.last_attempt)

    def _run(self) -> End:
        tries = 1
        while self.todo:
            left = self._one_pass()
            self.todo = [obj for obj, _error in left]
            errors = [error for _obj, error in left]
            for error in errors:
                metrics.RETRIES.labels(error.code).inc()
            if any(isinstance(error, (LedgerUnavailable, WorkerStopping)) for error in errors):
                # Our hold went with the session, or our time is over: write what we have.
                return self._hand_back(left)
            if any(isinstance(error, ContentBusy) for error in errors):
                self._let_others_see()
            away = self._service_away(errors)
            if away is not None:
                if not self.place.away.wait_for(away, self.place.settings.patience, self._beat):
                    return self._hand_back(left)
            elif any(not isinstance(error, ContentBusy) for error in errors):
                if tries >= self.place.settings.transient_tries:
                    self._give_up(left, tries)
                    continue
                self._pause(0.25 * 2**tries)
                tries += 1
        self._write(self.results)
        return DONE

    def _claim(self, sha256: bytes) -> str | None:
        try:
            claim = self.hold.claim(sha256, self.release)
        except SQLAlchemyError as error:
            if is_away(error):
                raise LedgerUnavailable("the database is away") from error
            raise
        if not claim.held:
            raise ContentBusy("another worker is having the same bytes inferred")
        return claim.state

    def _quarantine(self) -> None:
        poison = [obj for obj in self.todo if obj.kills >= self.place.settings.crash_tries]
        for obj in poison:
            killed = WorkerKilled(f"{obj.kills} workers died with it")
            self.results.append(failure(obj, killed, state="quarantined"))
            self.todo.remove(obj)

    def _open_attempts(self) -> int:
        ids = [obj.object_version_id for obj in self.todo]
        last = ledger.open_attempts(self.place.engine, self.hold.chunk_id, ids, self.place.name)
        metrics.ATTEMPTS.inc(len(ids))
        return last

    def _one_pass(self) -> Left:
        """Try each object once; those whose error may pass are left, and those out of time."""
        submit = self.place.threads.submit
        futures = {submit(carried(self.pipeline.run), obj): obj for obj in self.todo}
        running = set(futures)
        beat_at = time.monotonic() + _HEARTBEAT_SECONDS
        while running and not self.place.deadline.passed():
            _done, running = wait(running, timeout=_POLL_SECONDS)
            if running and time.monotonic() >= beat_at:
                self._beat()
                beat_at += _HEARTBEAT_SECONDS
        left: Left = []
        for future, obj in futures.items():
            if future in running:
                future.cancel()
                left.append((obj, WorkerStopping("the worker was told to stop")))
                continue
            error = future.exception()
            if isinstance(error, TransientError):
                left.append((obj, error))
            else:
                self.results.append(future.result())
        return left

    def _let_others_see(self) -> None:
        """Write what we have and give up its bytes: two chunks could wait for each other's."""
        if self.results:
            self._write(self.results)
            self.results = []
            patiently(self.place, self.hold.release_contents)
        self._pause(_BUSY_SECONDS * 2**self.busy)
        self.busy += 1

    def _service_away(self, errors: Iterable[TransientError]) -> Probe | None:
        """The service that is away; None if none is. Each is asked once: Triton infers for it."""
        suspects: set[Probe] = set()
        for error in errors:
            if isinstance(error, (InferenceUnavailable, InferenceTimeout, ReleaseNotServed)):
                suspects.add(self.locator.ready)
            elif isinstance(error, ArchiveUnavailable):
                suspects.add(self.archive.reachable)
        return next((one for one in suspects if not self.place.away.answers(one)), None)

    def _pause(self, seconds: float) -> None:
        """Wait for a half to the whole of it, but not for longer than the longest back-off."""
        self.place.deadline.sleep(min(_LONGEST_BACKOFF, seconds) * random.uniform(0.5, 1.0))

    def _give_up(self, left: Left, tries: int) -> None:
        """Record the errors that outlasted their tries; busy bytes are no error and stay to do."""
        for obj, error in left:
            if not isinstance(error, ContentBusy):
                self.results.append(failure(obj, RetriesExhausted(error, tries)))
                self.todo.remove(obj)

    def _hand_back(self, left: Left) -> End:
        handed = [Result(obj.object_version_id, None, error.code) for obj, error in left]
        self._write([*self.results, *handed])
        return End(left[0][1].message, self.last_attempt)

    def _beat(self) -> None:
        try:
            ledger.heartbeat(self.place.engine, self.hold.chunk_id)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise

    def _write(self, results: Sequence[Result]) -> None:
        """Write results; one that the database refuses fails alone."""
        try:
            patiently(self.place, lambda: self._write_together(results))
        except DBAPIError as error:
            log.exception("chunk %d: the database refused its results", self.hold.chunk_id)
            if len(results) > 1:
                # First those that bring a geotag: the outcome of a duplicate needs it.
                for result in sorted(results, key=lambda result: result.geotag is None):
                    self._write([result])
                return
            refused = InternalError(f"the database refused it: {error.orig}")
            bare = replace(
                results[0],
                state="failed",
                code=refused.code,
                message=refused.message[:2000],
                content=None,
                geotag=None,
            )
            patiently(self.place, lambda: self._write_together([bare]))

    def _write_together(self, results: Sequence[Result]) -> None:
        with metrics.stage("write"):
            ledger.write_results(self.place.engine, self.hold.chunk_id, results)
        for result in results:
            if result.state is not None:
                metrics.OBJECTS.labels(result.state, result.code or "").inc()
