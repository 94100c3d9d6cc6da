"""Work on one chunk: each object gets an outcome, or goes back to the queue.

- A permanent error is the object's outcome. The other objects of the chunk go on.
- A transient error is retried within the chunk, with back-off, and recorded after the last try.
- While a service is unavailable nothing is counted. The worker waits, then hands the chunk back,
  and begins no other chunk that needs the service before it answers (circuit_breaker.py).
- A worker that is told to stop hands back what it cannot finish in time (shutdown.py).
- A worker that dies leaves attempts open. The next worker that gets the message splits the chunk.
  An object whose workers keep dying ends in quarantine.
"""

import logging
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db import ledger, planning
from db.engine import is_transient
from db.leases import ChunkLeasedElsewhere, Lease
from db.ledger import Result
from db.objects import ArchiveObject
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
Left = list[tuple[ArchiveObject, TransientError]]

_HEARTBEAT_SECONDS = 10.0
_POLL_SECONDS = 1.0
_LEASE_TRIES = 10
_FIRST_BACKOFF = 0.5
_FIRST_BUSY_BACKOFF = 0.2
_LONGEST_BACKOFF = 8.0

_TIMED_OUT = {"57014", "25P04"}  # SQLSTATEs: statement_timeout (or cancelled), transaction_timeout


@dataclass(frozen=True)
class End:
    """The end of the work on a message.

    Args:
        handed_back: why the message must come again; None where it is done with.
        last_handed_back: highest attempt id not to be counted as a crash
            (`db.ledger.begin_chunk`).
    """

    handed_back: str | None = None
    last_handed_back: int = 0


DONE = End()


def work_chunk(context: WorkerContext, chunk_id: int, delivery: int, last_handed_back: int) -> End:
    """Work on a chunk's message, which says `delivery` and `last_handed_back`."""
    try:
        lease = retry_ledger(context, lambda: Lease(context.engine, chunk_id))
    except ChunkLeasedElsewhere:
        # Valkey delivers a long chunk twice. If the other worker dies, only this message is left:
        # it must not be dropped.
        context.deadline.sleep(_POLL_SECONDS * random.uniform(2, 4))
        return End("another worker has its lease", last_handed_back)
    except LedgerUnavailable as error:
        return End(error.message, last_handed_back)
    try:
        chunk = retry_ledger(
            context,
            lambda: ledger.begin_chunk(context.engine, chunk_id, delivery, last_handed_back),
        )
        if chunk is None:
            return DONE
        ids = {"run": chunk.run_id, "archive": chunk.archive.name}
        with bound(**ids), metrics.CHUNKS.track_inprogress():
            return _work_begun(context, lease, chunk)
    except LedgerUnavailable as error:
        return End(error.message, last_handed_back)
    finally:
        lease.release()


def _work_begun(context: WorkerContext, lease: Lease, chunk: ledger.Chunk) -> End:
    metrics.CRASHES.inc(bool(chunk.killed))
    if len(chunk.objects) > 1 and any(obj.kills for obj in chunk.objects):
        log.warning("chunk %d killed a worker: its objects go on one by one", lease.chunk_id)
        # The parts wait in the ledger, as all chunks do, until a publisher sends them.
        retry_ledger(context, lambda: planning.split_chunk(context.engine, lease.chunk_id))
        chunk = replace(chunk, objects=())
    if not chunk.objects:
        retry_ledger(context, lambda: ledger.finish_chunk(context.engine, lease.chunk_id))
        return DONE
    return _ChunkWork(context, lease, chunk).run()


def record_fault(context: WorkerContext, chunk_id: int, delivery: int, error: Exception) -> None:
    """Record an internal error that ended a chunk, for its objects without an outcome.

    Nothing is recorded if another worker has begun the chunk since: that one records outcomes.
    """
    lease = _lease_again(context, chunk_id)
    if lease is None:
        log.warning("chunk %d: another worker has its lease, and goes on with it", chunk_id)
        return
    try:
        chunk = ledger.begin_chunk(context.engine, chunk_id, delivery, sys.maxsize)
        internal = InternalError(f"{type(error).__name__}: {error}")
        results = [failure(obj, internal) for obj in chunk.objects] if chunk else []
        _write_results(context, chunk_id, results)
    finally:
        lease.release()


def _lease_again(context: WorkerContext, chunk_id: int) -> Lease | None:
    """Return a new lease once the session of the last one has ended; None if another has it."""
    for _try in range(_LEASE_TRIES):
        try:
            return Lease(context.engine, chunk_id)
        except ChunkLeasedElsewhere:
            context.deadline.sleep(_FIRST_BUSY_BACKOFF)
    return None


def retry_ledger(context: WorkerContext, ask: Callable[[], T]) -> T:
    """Return what `ask` returns, retrying it while the database is unavailable.

    Raises:
        LedgerUnavailable: it stayed so for longer than the setting `patience`, or than this process
            may go on.
    """
    until = time.monotonic() + context.settings.patience
    while True:
        try:
            return ask()
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise
            if time.monotonic() >= until or context.deadline.passed():
                raise _ledger_unavailable(error) from error
        context.deadline.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))


def _ledger_unavailable(error: SQLAlchemyError) -> LedgerUnavailable:
    reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
    return LedgerUnavailable(f"the database is unavailable: {reason}")


def _write_results(context: WorkerContext, chunk_id: int, results: Sequence[Result]) -> None:
    """Write results in one transaction, and count them."""
    with metrics.stage("write"):
        ledger.write_results(context.engine, chunk_id, results)
    for result in results:
        if result.state is not None:
            metrics.OBJECTS.labels(result.state, result.code or "").inc()


def _timed_out(error: LedgerUnavailable) -> bool:
    """Return whether the database ended a statement that took too long."""
    return getattr(getattr(error.__cause__, "orig", None), "pgcode", None) in _TIMED_OUT


def _parts(results: Sequence[Result], size: int) -> Iterator[Sequence[Result]]:
    """Yield the results in parts; geotags first, as the outcomes of duplicates need them."""
    ordered = sorted(results, key=lambda result: result.geotag is None)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


class _ChunkWork:
    """The objects of one chunk; `todo` are those without a result."""

    def __init__(self, context: WorkerContext, lease: Lease, chunk: ledger.Chunk) -> None:
        self.context = context
        self.lease = lease
        self.release = chunk.release
        self.triton = context.triton_client(chunk.release, chunk.digest)
        self.s3 = context.s3_services.of(chunk.archive)
        self.todo = list(chunk.objects)
        self.results: list[Result] = []
        self.last_attempt = 0
        self.busy_waits = 0
        self.pipeline = Pipeline(
            context.settings,
            self.s3,
            self.triton,
            self._claim,
            context.code_version,
        )

    def run(self) -> End:
        """Work until each object has an outcome, or is handed back."""
        self._quarantine()
        services = {self.triton.ready, self.s3.reachable}
        if not self.context.circuit_breaker.all_available(services, self._heartbeat):
            return End("a service that it needs is still unavailable")
        try:
            self.last_attempt = retry_ledger(self.context, self._open_attempts)
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
                # The lease ended with its session, or the time is over: write what there is.
                return self._hand_back(left)
            if any(isinstance(error, ContentBusy) for error in errors):
                self._let_others_see()
            unavailable = self._unavailable_service(errors)
            if unavailable is not None:
                if not self.context.circuit_breaker.wait_for(
                    unavailable, self.context.settings.patience, self._heartbeat
                ):
                    return self._hand_back(left)
            elif any(not isinstance(error, ContentBusy) for error in errors):
                if tries >= self.context.settings.transient_tries:
                    self._give_up(left, tries)
                    continue
                self._pause(_FIRST_BACKOFF, tries - 1)
                tries += 1
        self._write(self.results)
        return DONE

    def _claim(self, sha256: bytes) -> str | None:
        try:
            claim = self.lease.claim(sha256, self.release)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise _ledger_unavailable(error) from error
            raise
        if not claim.leased:
            raise ContentBusy("another worker is having the same bytes inferred")
        return claim.state

    def _quarantine(self) -> None:
        poison = [obj for obj in self.todo if obj.kills >= self.context.settings.crash_tries]
        for obj in poison:
            killed = WorkerKilled(f"{obj.kills} workers died with it")
            self.results.append(failure(obj, killed, state="quarantined"))
            self.todo.remove(obj)

    def _open_attempts(self) -> int:
        ids = [obj.object_version_id for obj in self.todo]
        last = ledger.open_attempts(
            self.context.engine, self.lease.chunk_id, ids, self.context.name
        )
        metrics.ATTEMPTS.inc(len(ids))
        return last

    def _one_pass(self) -> Left:
        """Try each object once; return those with a transient error and those out of time."""
        submit = self.context.threads.submit
        futures = {submit(carried(self.pipeline.run), obj): obj for obj in self.todo}
        running = set(futures)
        heartbeat_at = time.monotonic() + _HEARTBEAT_SECONDS
        while running and not self.context.deadline.passed():
            _done, running = wait(running, timeout=_POLL_SECONDS)
            if running and time.monotonic() >= heartbeat_at:
                self._heartbeat()
                heartbeat_at += _HEARTBEAT_SECONDS
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
        """Write the results and release their contents: two chunks could wait for each other's."""
        if self.results:
            self._write(self.results)
            self.results = []
            retry_ledger(self.context, self.lease.release_contents)
        self._heartbeat()
        self._pause(_FIRST_BUSY_BACKOFF, self.busy_waits)
        self.busy_waits += 1

    def _unavailable_service(self, errors: Iterable[TransientError]) -> Probe | None:
        """Return a service that does not answer, if any. Each is asked once: Triton must infer."""
        suspects: set[Probe] = set()
        for error in errors:
            if isinstance(error, (InferenceUnavailable, InferenceTimeout, ReleaseNotServed)):
                suspects.add(self.triton.ready)
            elif isinstance(error, ArchiveUnavailable):
                suspects.add(self.s3.reachable)
        breaker = self.context.circuit_breaker
        return next((one for one in suspects if not breaker.answers(one)), None)

    def _pause(self, first: float, waits: int) -> None:
        """Sleep for a back-off: half to all of `first`, doubled `waits` times, within a bound."""
        doublings = min(waits, 32)  # a float overflows after 1,023
        self.context.deadline.sleep(
            min(_LONGEST_BACKOFF, first * 2**doublings) * random.uniform(0.5, 1.0)
        )

    def _give_up(self, left: Left, tries: int) -> None:
        """Record errors after their last try. Busy contents are no error and stay to do."""
        for obj, error in left:
            if not isinstance(error, ContentBusy):
                self.results.append(failure(obj, RetriesExhausted(error, tries)))
                self.todo.remove(obj)

    def _hand_back(self, left: Left) -> End:
        handed = [Result(obj.object_version_id, None, error.code) for obj, error in left]
        self._write([*self.results, *handed])
        return End(left[0][1].message, self.last_attempt)

    def _heartbeat(self) -> None:
        try:
            ledger.heartbeat(self.context.engine, self.lease.chunk_id)
        except SQLAlchemyError as error:
            if not is_transient(error):
                raise

    def _write(self, results: Sequence[Result]) -> None:
        """Write results, in halves where that takes the database too long.

        A result that the database refuses fails alone.
        """
        try:
            self._write_together(results)
        except LedgerUnavailable as error:
            if len(results) < 2 or self.context.deadline.passed() or not _timed_out(error):
                raise
            log.warning(
                "chunk %d: its results are written in halves: %s", self.lease.chunk_id, error
            )
            for half in _parts(results, (len(results) + 1) // 2):
                self._write(half)
        except DBAPIError as error:
            log.exception("chunk %d: the database refused its results", self.lease.chunk_id)
            if len(results) > 1:
                for one in _parts(results, 1):
                    self._write(one)
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
            self._write_together([bare])

    def _write_together(self, results: Sequence[Result]) -> None:
        chunk_id = self.lease.chunk_id
        retry_ledger(self.context, lambda: _write_results(self.context, chunk_id, results))
