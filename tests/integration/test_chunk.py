"""How one worker processes one message while services fail, with a real ledger and real S3."""

import math
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Reject
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, OperationalError

from db import archives, ledger, planning
from db.leases import ChunkLeasedElsewhere, Lease
from db.ledger import Result
from db.objects import ArchiveObject
from db.planning import PlannedChunk
from db.reads import failure_codes
from geotag.context import Context
from tests.images import good_files
from tests.ledger_helpers import new_run, planned, sha
from tests.stack_helpers import results, scalar, until, upload
from workers.broker.app import BACKFILL, PROCESS_CHUNK, make_app
from workers.chunks import tasks, triton_client
from workers.chunks.context import WorkerContext
from workers.chunks.pipeline import Pipeline
from workers.chunks.shutdown import Deadline
from workers.chunks.work import record_fault
from workers.errors import InferenceTimeout, InferenceUnavailable
from workers.s3.service import S3Service
from workers.settings import WorkerSettings


class CurrentContext:
    """Proxy to the context of the worker under test: Celery shares a task between applications."""

    current: WorkerContext

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


CONTEXT: Any = CurrentContext()
APP = make_app(WorkerSettings(broker_url=SecretStr("memory://")))
tasks.register(APP, CONTEXT)


class Worker:
    """A worker without a broker: `deliver` runs its task, `sent` records what it publishes."""

    def __init__(self, running: Context, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = running.settings.worker.model_copy(
            update={"patience": 0.5, "transient_tries": 2}
        )
        self.database = running.settings.database
        self.sent: list[tuple[int, int]] = []
        self.last: tuple[Any, ...] = ()
        monkeypatch.setattr(tasks, "publish", self._publish)
        self.context = self.new_context()

    def new_context(self, **changes: Any) -> WorkerContext:
        self.context = WorkerContext(self.settings.model_copy(update=changes), self.database)
        return self.context

    def _publish(
        self,
        _app: object,
        _queue: str,
        chunk_id: int,
        delivery: int,
        ids: Sequence[int],
        *last_handed_back: int,
    ) -> None:
        self.sent.append((chunk_id, delivery))
        self.last = (PlannedChunk(chunk_id, delivery, tuple(ids)), *last_handed_back)

    def deliver(self, chunk: PlannedChunk, *last_handed_back: int) -> None:
        CONTEXT.current = self.context
        APP.tasks[PROCESS_CHUNK](
            chunk.chunk_id,
            chunk.delivery,
            list(chunk.object_version_ids),
            BACKFILL,
            *last_handed_back,
        )

    def deliver_what_was_sent(self) -> None:
        chunk, *last_handed_back = self.last
        self.deliver(chunk, *last_handed_back)


@pytest.fixture
def worker(running: Context, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(running, monkeypatch)


def chunk_of(context: Context, bucket: str, files: Mapping[str, bytes]) -> PlannedChunk:
    """Upload the files and return an unpublished chunk of them."""
    upload(context, bucket, files)
    archive_id = archives.by_name(context.engine, bucket).id
    objects = [
        replace(obj, archive_id=archive_id)
        for page in context.s3.list_objects(bucket)
        for obj in page.objects
    ]
    run = new_run(context.engine)
    page = planning.plan_page(context.engine, run, planning.ListedPage(objects), chunk_size=8)
    return page.chunks[0]


@pytest.fixture
def chunk(running: Context, bucket: str) -> PlannedChunk:
    """An unpublished chunk of three good photographs."""
    picture = good_files()["plain.jpg"]
    return chunk_of(running, bucket, {f"{i}.jpg": picture + f"{bucket}{i}".encode() for i in "012"})


def lease_of(context: Context, chunk: PlannedChunk) -> Lease | None:
    """Lease a chunk; None while the session of the previous lease is still ending."""
    try:
        return Lease(context.engine, chunk.chunk_id)
    except ChunkLeasedElsewhere:
        return None


def lease_ended(context: Context, chunk: PlannedChunk) -> bool:
    """Whether a chunk is not leased. A released lease ends only when its session has ended."""
    leases = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
        " AND (classid::bigint << 32) | objid::bigint = hashtextextended(:name, 0)"
    )
    return scalar(context, leases, name=f"geotag.chunk:{chunk.chunk_id}") == 0


def attempts(context: Context, chunk: PlannedChunk) -> set[str | None]:
    """Return the codes with which the attempts on a chunk's objects ended."""
    query = text("SELECT code FROM geotag.attempt WHERE object_version_id = ANY(:ids)")
    ids = list(chunk.object_version_ids)
    with context.engine.connect() as connection:
        return set(connection.execute(query, {"ids": ids}).scalars())


def still_to_do(context: Context, chunk: PlannedChunk) -> list[int]:
    """Return, for each object without an outcome, how many workers it killed."""
    lease = until(lambda: lease_of(context, chunk))
    try:
        begun = ledger.begin_chunk(context.engine, chunk.chunk_id, chunk.delivery)
    finally:
        lease.release()
    until(lambda: lease_ended(context, chunk))
    return [obj.kills for obj in begun.objects] if begun else []


def test_finished_chunk_is_not_published_again(
    running: Context, worker: Worker, chunk: PlannedChunk
) -> None:
    worker.deliver(chunk)
    assert still_to_do(running, chunk) == []
    assert worker.sent == []
    worker.deliver(chunk)  # redelivered, as any broker may: nothing is done twice
    assert worker.sent == []


def test_chunk_that_another_worker_leases_is_published_again(
    running: Context, worker: Worker, chunk: PlannedChunk
) -> None:
    lease = Lease(running.engine, chunk.chunk_id)
    try:
        worker.deliver(chunk)
    finally:
        lease.release()
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert still_to_do(running, chunk) == [0, 0, 0]


@pytest.mark.parametrize(
    "credential",
    [
        {"s3_access_key": None, "s3_secret_key": None},
        {"s3_secret_key": WorkerSettings(s3_secret_key="wrong").s3_secret_key},
    ],
    ids=["none", "wrong"],
)
def test_worker_without_a_credential_hands_its_chunk_back(
    running: Context,
    worker: Worker,
    chunk: PlannedChunk,
    credential: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An expired token must not fail every photograph of a scheduled run."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    worker.new_context(**credential)
    worker.deliver(chunk)
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert still_to_do(running, chunk) == [0, 0, 0]


def test_chunk_is_handed_back_while_its_archive_is_unavailable(
    running: Context, worker: Worker, chunk: PlannedChunk
) -> None:
    context = worker.new_context()
    unreachable = context.settings.model_copy(
        update={"s3_endpoint": "http://127.0.0.1:1", "s3_tries": 1, "s3_timeout": 1.0}
    )
    context.s3_services = SimpleNamespace(of=lambda _archive: S3Service(unreachable))
    worker.deliver(chunk)
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert still_to_do(running, chunk) == [0, 0, 0]


def a_client(error: Exception, *, ready: bool) -> Any:
    def fails(*_arguments: object) -> Any:
        raise error

    return SimpleNamespace(served=fails, locate=fails, ready=lambda: ready)


@pytest.mark.parametrize("error", [InferenceUnavailable("gone"), InferenceTimeout("black hole")])
def test_chunk_is_handed_back_while_triton_is_unavailable(
    running: Context,
    worker: Worker,
    chunk: PlannedChunk,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        worker.context, "triton_client", lambda *_release: a_client(error, ready=False)
    )
    worker.deliver(chunk)
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert still_to_do(running, chunk) == [0, 0, 0]


def test_service_that_stayed_unavailable_is_probed_before_the_next_chunk_begins(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of Triton must not fetch the archive repeatedly or fill the ledger."""
    tries = "SELECT count(*) FROM geotag.attempt WHERE object_version_id = ANY(:ids)"
    ids = list(chunk.object_version_ids)
    unreachable = a_client(InferenceUnavailable("gone"), ready=False)
    with monkeypatch.context() as outage:
        outage.setattr(worker.context, "triton_client", lambda *_release: unreachable)
        worker.deliver(chunk)
        before = scalar(running, tries, ids=ids)
        until(lambda: lease_ended(running, chunk))
        worker.deliver_what_was_sent()
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)] * 2
    assert scalar(running, tries, ids=ids) == before > 0

    until(lambda: lease_ended(running, chunk))
    worker.deliver_what_was_sent()  # the worker waits only for the unavailable service

    assert still_to_do(running, chunk) == []


def test_service_that_hangs_is_probed_for_a_tenth_of_the_time(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that never answers must not delay the chunks of other archives."""
    asked: list[float] = []

    def hangs() -> bool:
        time.sleep(0.1)
        asked.append(time.monotonic())
        return False

    unreachable = a_client(InferenceUnavailable("gone"), ready=False)
    unreachable.ready = hangs
    with monkeypatch.context() as outage:
        outage.setattr(worker.context, "triton_client", lambda *_release: unreachable)
        worker.deliver(chunk)
        assert worker.context.circuit_breaker.retry_at[hangs] >= asked[-1] + 0.8
        worker.context.circuit_breaker.retry_at[hangs] = math.inf
        times = len(asked)
        until(lambda: lease_ended(running, chunk))
        worker.deliver_what_was_sent()
        assert len(asked) == times
        worker.context.circuit_breaker.retry_at[hangs] = 0.0
        until(lambda: lease_ended(running, chunk))
        worker.deliver_what_was_sent()
        assert len(asked) > times
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)] * 3


def test_stopping_worker_hands_back_its_unfinished_objects(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGTERM while Triton hangs, the chunk is handed back and no crash is counted."""
    released = threading.Event()

    def hangs(*_arguments: object) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        released.wait()
        raise InferenceUnavailable("gone")

    hanging = SimpleNamespace(served=hangs, ready=lambda: False)
    worker.new_context(shutdown_grace=0.5)
    monkeypatch.setattr(worker.context, "triton_client", lambda *_release: hanging)
    try:
        worker.deliver(chunk)
    finally:
        released.set()
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert attempts(running, chunk) == {"worker_stopping"}
    assert still_to_do(running, chunk) == [0, 0, 0]


def test_repeated_failures_of_a_ready_triton_are_recorded(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = a_client(InferenceTimeout("slow"), ready=True)
    monkeypatch.setattr(worker.context, "triton_client", lambda *_release: slow)
    worker.deliver(chunk)
    assert worker.sent == []
    assert still_to_do(running, chunk) == []


def test_another_build_of_the_release_in_triton_fails_no_photograph(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger does not know the digest of the other weights, so it records no result."""
    said = triton_client.read_answer

    def another(*arguments: Any) -> Any:
        return replace(said(*arguments), release_digest="f" * 64)

    monkeypatch.setattr(triton_client, "read_answer", another)
    worker.deliver(chunk)
    assert still_to_do(running, chunk) == [0, 0, 0]


def test_outage_of_the_ledger_is_not_counted_as_a_crash(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several outages of the ledger must not quarantine photographs."""

    def unreachable(*_arguments: object) -> None:
        raise OperationalError("write", None, Exception("the database system is shutting down"))

    with monkeypatch.context() as outage:
        outage.setattr(ledger, "write_results", unreachable)
        worker.deliver(chunk)
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]

    until(lambda: lease_ended(running, chunk))
    worker.deliver_what_was_sent()

    assert still_to_do(running, chunk) == []
    assert "worker_killed" not in attempts(running, chunk)


def test_internal_error_does_not_lose_the_chunk(
    running: Context, worker: Worker, chunk: PlannedChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery acknowledges a task that raised. The chunk must be published again all the same."""

    def breaks(*_arguments: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as fault:
        fault.setattr(ledger, "write_results", breaks)
        try:
            worker.deliver(chunk)
            kept = bool(worker.sent)
        except Reject as rejected:
            kept = bool(rejected.args[1])
        except ZeroDivisionError:
            kept = False
    assert kept or still_to_do(running, chunk) == []


def test_results_refused_as_a_batch_are_written_after_their_shared_geotag(
    running: Context, bucket: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcome of a duplicate refers to the geotag of its bytes, written by either object."""
    picture = good_files()["plain.jpg"] + bucket.encode()
    chunk = chunk_of(running, bucket, {"a.jpg": picture, "b.jpg": picture})
    run, write, b_done = Pipeline.run, ledger.write_results, threading.Event()

    def b_before_a(self: Pipeline, obj: ArchiveObject) -> Result:
        if obj.key == "a.jpg":
            assert b_done.wait(60)
            return run(self, obj)
        try:
            return run(self, obj)
        finally:
            b_done.set()

    def one_by_one(engine: Engine, chunk_id: int, results: Sequence[Result]) -> None:
        if len(results) > 1:
            raise DataError("insert", None, ValueError("refused"))
        write(engine, chunk_id, results)

    monkeypatch.setattr(Pipeline, "run", b_before_a)
    monkeypatch.setattr(ledger, "write_results", one_by_one)
    worker.deliver(chunk)
    assert {key: row.state for key, row in results(running, bucket).items()} == dict.fromkeys(
        ("a.jpg", "b.jpg"), "geotagged"
    )


def test_internal_error_is_not_recorded_on_a_chunk_that_another_worker_leases(
    running: Context,
) -> None:
    run_id, (chunk,) = planned(running.engine, ["a.jpg", "b.jpg", "c.jpg"])
    context: Any = SimpleNamespace(engine=running.engine, deadline=Deadline())
    other = Lease(running.engine, chunk.chunk_id)
    try:
        ledger.begin_chunk(running.engine, chunk.chunk_id, chunk.delivery)
        ids = list(chunk.object_version_ids)
        ledger.open_attempts(running.engine, chunk.chunk_id, ids, "other")
        record_fault(context, chunk.chunk_id, chunk.delivery, ZeroDivisionError())
        done = text("SELECT finished_at IS NOT NULL FROM geotag.attempt WHERE chunk_id = :id")
        with running.engine.connect() as connection:
            found = connection.execute(done, {"id": chunk.chunk_id}).scalars().all()
        assert found == [False] * 3
    finally:
        other.release()
    record_fault(context, chunk.chunk_id, chunk.delivery, ZeroDivisionError())
    assert failure_codes(running.engine, run_id) == [("internal_error", 3)]


def test_chunk_that_killed_a_worker_is_split_and_left_to_the_publisher(
    running: Context, worker: Worker, chunk: PlannedChunk
) -> None:
    ledger.open_attempts(running.engine, chunk.chunk_id, chunk.object_version_ids, "killed")

    worker.deliver(chunk)
    until(lambda: lease_ended(running, chunk))
    worker.deliver(chunk)  # as if a worker had died between the split and its message

    query = text(
        "SELECT c.published_at IS NULL AS waits, count(*) AS objects FROM geotag.chunk c"
        " JOIN geotag.run_object ro ON ro.chunk_id = c.id"
        " WHERE ro.object_version_id = ANY(:ids) AND c.finished_at IS NULL GROUP BY c.id"
    )
    with running.engine.connect() as connection:
        parts = connection.execute(query, {"ids": list(chunk.object_version_ids)}).all()
    assert [tuple(part) for part in parts] == [(True, 1)] * len(chunk.object_version_ids)
    assert worker.sent == []


def test_released_lease_claims_nothing(running: Context, chunk: PlannedChunk) -> None:
    """A thread may still process an object of a chunk that was handed back."""
    lease = Lease(running.engine, chunk.chunk_id)
    lease.release()
    assert not lease.claim(
        sha(running.settings.command.bucket), running.settings.command.release
    ).leased
