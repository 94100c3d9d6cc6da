"""A chunk of objects, from its message to the ledger.

A worker process takes up one chunk at a time (prefork, late acknowledgement) and works on its
objects with threads. Whatever happens, the message is answered by rows or goes back to the queue:

- an object's permanent error is its outcome, and the rest of the chunk goes on;
- a transient error is tried again within the chunk, with back-off, and recorded in the end;
- while a service is away, nothing is counted: the worker waits, then hands the chunk back;
- a worker that dies leaves open attempts behind. Whoever gets the message next splits the chunk,
  and an object whose workers keep dying ends in quarantine.
"""

import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from typing import TypeVar

from celery import Celery
from celery.exceptions import Reject
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from db import ledger, planning
from db.engine import is_away, make_engine
from db.ledger import ChunkObject, Result
from db.settings import DatabaseSettings
from workers.app import PROCESS_CHUNK, BrokerUnavailable, publish
from workers.archive import Archive
from workers.errors import (
    ArchiveUnavailable,
    InferenceUnavailable,
    InternalError,
    LedgerUnavailable,
    ReleaseNotServed,
    RetriesExhausted,
    TransientError,
    WorkerKilled,
)
from workers.locator import Locator
from workers.pipeline import Pipeline, failure
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

_HEARTBEAT_SECONDS = 10.0
_POLL_SECONDS = 1.0
_LONGEST_BACKOFF = 8.0


@dataclass
class Workplace:
    """What one worker process works with; everything is made on first use, after the fork."""

    settings: WorkerSettings
    database: DatabaseSettings
    _locators: dict[str, Locator] = field(default_factory=dict)

    @cached_property
    def engine(self) -> Engine:
        """Connections to the ledger."""
        return make_engine(self.database)

    @cached_property
    def archive(self) -> Archive:
        """The S3 service."""
        return Archive(self.settings)

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """As many threads as objects may be in flight."""
        return ThreadPoolExecutor(self.settings.in_flight, thread_name_prefix="object")

    @cached_property
    def name(self) -> str:
        """This process, as attempts name it."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def locator(self, release: str) -> Locator:
        """Triton, for a release."""
        if release not in self._locators:
            self._locators[release] = Locator(self.settings, release)
        return self._locators[release]

    def pipeline(self, release: str) -> Pipeline:
        """A pipeline for one chunk."""
        return Pipeline(
            self.settings,
            self.archive,
            self.locator(release),
            lambda sha256: self._known_state(sha256, release),
            code_version=version("geotag-archive"),
        )

    def _known_state(self, sha256: bytes, release: str) -> str | None:
        try:
            return ledger.known_state(self.engine, sha256, release)
        except SQLAlchemyError as error:
            if is_away(error):
                raise LedgerUnavailable("the database is away") from error
            raise


def register(app: Celery, place: Workplace) -> None:
    """Teach the application its one task."""

    @app.task(name=PROCESS_CHUNK)
    def process_chunk(chunk_id: int, delivery: int, objects: list[int], queue: str) -> None:
        def send(chunk: planning.PlannedChunk) -> None:
            publish(app, queue, chunk.chunk_id, chunk.delivery, chunk.object_version_ids)

        done = False
        try:
            done = work_chunk(place, chunk_id, delivery, send)
        except TransientError as error:
            log.warning("chunk %d goes back to the queue: %s", chunk_id, error.message)
        if not done:
            try:
                send(planning.PlannedChunk(chunk_id, delivery, tuple(objects)))
            except BrokerUnavailable as error:
                # The broker still has this message and gives it to somebody when it is back.
                raise Reject(error.message, requeue=True) from error


def work_chunk(
    place: Workplace,
    chunk_id: int,
    delivery: int,
    send: Callable[[planning.PlannedChunk], None],
) -> bool:
    """Work on a chunk; True where its message is done with, False where it must come again.

    Raises:
        LedgerUnavailable: the database stayed away.
    """
    hold = patiently(place, lambda: ledger.hold_chunk(place.engine, chunk_id))
    if hold is None:
        # Alive elsewhere: Valkey delivers a long chunk twice. Should its holder die, this message
        # is the one that is left, so it must not be dropped.
        time.sleep(_POLL_SECONDS * random.uniform(2, 4))
        return False
    try:
        chunk = patiently(place, lambda: ledger.begin_chunk(place.engine, chunk_id, delivery))
        if not chunk or not chunk.objects:
            return True
        if len(chunk.objects) > 1 and any(obj.kills for obj in chunk.objects):
            log.warning("chunk %d killed a worker: its objects go on one by one", chunk_id)
            for single in patiently(place, lambda: planning.split_chunk(place.engine, chunk_id)):
                send(single)
            return True
        return _work_objects(place, chunk_id, chunk)
    finally:
        ledger.let_go(hold)


def _work_objects(place: Workplace, chunk_id: int, chunk: ledger.Chunk) -> bool:
    """Each object to its outcome; False where some were handed back."""
    poison = [obj for obj in chunk.objects if obj.kills >= place.settings.crash_tries]
    results = [
        failure(obj, WorkerKilled(f"{obj.kills} workers died with it"), state="quarantined")
        for obj in poison
    ]
    todo = [obj for obj in chunk.objects if obj not in poison]
    ids = [obj.object_version_id for obj in todo]
    patiently(place, lambda: ledger.open_attempts(place.engine, chunk_id, ids, place.name))
    pipeline = place.pipeline(chunk.release)
    tries = 1
    while todo:
        done, left = _one_pass(place, chunk_id, pipeline, todo)
        results += done
        todo = [obj for obj, _error in left]
        if not left:
            break
        away = _service_away(place, chunk.release, [error for _obj, error in left])
        if away is not None:
            if _wait_for(place, chunk_id, away):
                continue
            results += [Result(obj.object_version_id, None, error.code) for obj, error in left]
            break
        if tries >= place.settings.transient_tries:
            results += [failure(obj, RetriesExhausted(error, tries)) for obj, error in left]
            break
        time.sleep(min(_LONGEST_BACKOFF, 0.25 * 2**tries) * random.uniform(0.5, 1.0))
        tries += 1
    _write(place, chunk_id, results)
    return all(result.state is not None for result in results)


def _one_pass(
    place: Workplace, chunk_id: int, pipeline: Pipeline, objects: Sequence[ChunkObject]
) -> tuple[list[Result], list[tuple[ChunkObject, TransientError]]]:
    """Try each object once; results, and the objects whose error may pass."""
    futures = {place.threads.submit(pipeline.run, obj): obj for obj in objects}
    running = set(futures)
    while running:
        _done, running = wait(running, timeout=_HEARTBEAT_SECONDS)
        if running:
            _beat(place, chunk_id)
    results: list[Result] = []
    left: list[tuple[ChunkObject, TransientError]] = []
    for future, obj in futures.items():
        error = future.exception()
        if isinstance(error, TransientError):
            left.append((obj, error))
        else:
            results.append(future.result())
    return results, left


def _service_away(
    place: Workplace, release: str, errors: Iterable[TransientError]
) -> Callable[[], bool] | None:
    """A question that becomes true when the service that is away is back; None if none is."""
    for error in errors:
        if isinstance(error, (InferenceUnavailable, ReleaseNotServed)):
            ready: Callable[[], bool] = place.locator(release).ready
        elif isinstance(error, ArchiveUnavailable):
            ready = place.archive.reachable
        elif isinstance(error, LedgerUnavailable):
            ready = partial(_answers, place.engine)
        else:
            continue
        if not ready():
            return ready
    return None


def _answers(engine: Engine) -> bool:
    try:
        with engine.connect():
            return True
    except SQLAlchemyError:
        return False


def _wait_for(place: Workplace, chunk_id: int, ready: Callable[[], bool]) -> bool:
    """Whether the service came back within the patience that the settings grant."""
    until = time.monotonic() + place.settings.patience
    while time.monotonic() < until:
        time.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))
        if ready():
            return True
        _beat(place, chunk_id)
    return False


def _beat(place: Workplace, chunk_id: int) -> None:
    try:
        ledger.heartbeat(place.engine, chunk_id)
    except SQLAlchemyError as error:
        if not is_away(error):
            raise


def patiently(place: Workplace, ask: Callable[[], T]) -> T:
    """Ask the ledger, waiting while it is away.

    Raises:
        LedgerUnavailable: it stayed away for longer than the patience that the settings grant.
    """
    until = time.monotonic() + place.settings.patience
    while True:
        try:
            return ask()
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            if time.monotonic() >= until:
                raise LedgerUnavailable("the database is away") from error
        time.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))


def _write(place: Workplace, chunk_id: int, results: Sequence[Result]) -> None:
    """Write a chunk's results; a result that the database refuses fails alone."""
    try:
        patiently(place, lambda: ledger.write_results(place.engine, chunk_id, results))
    except DBAPIError as error:
        log.exception("chunk %d: the database refused its results", chunk_id)
        if len(results) == 1:
            refused = InternalError(f"the database refused it: {error.orig}")
            bare = replace(
                results[0],
                state="failed",
                code=refused.code,
                message=refused.message[:2000],
                content=None,
                geotag=None,
            )
            patiently(place, lambda: ledger.write_results(place.engine, chunk_id, [bare]))
            return
        for result in results:
            _write(place, chunk_id, [result])
