"""Waits of a chunk for inferences of other chunks and for transient errors."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from db import ledger
from workers.chunks import work
from workers.chunks.context import WorkerContext
from workers.chunks.shutdown import Deadline
from workers.settings import WorkerSettings


class Clock(Deadline):
    """Records the sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Stub:
    """Stands for any lease, service, chunk or database."""

    objects = ()
    chunk_id = 1

    def __getattr__(self, _name: str) -> Any:
        return Stub()

    def __call__(self, *_arguments: object) -> Any:
        return Stub()


class Context(WorkerContext):
    """A worker context without services."""

    triton_client: Any = Stub()
    s3_services: Any = Stub()
    engine: Any = Stub()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeats(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    beats: list[int] = []
    monkeypatch.setattr(ledger, "heartbeat", lambda _engine, chunk_id: beats.append(chunk_id))
    return beats


def chunk_work(clock: Clock) -> Any:
    context = Context(WorkerSettings(), Stub(), clock)  # type: ignore[arg-type]
    context.__dict__["threads"] = ThreadPoolExecutor(1)
    return work._ChunkWork(context, Stub(), Stub())  # type: ignore[arg-type]


def test_chunk_waits_for_busy_contents_without_end(clock: Clock, heartbeats: list[int]) -> None:
    """Another chunk may work on the same bytes for hours. The worker keeps sending heartbeats."""
    waiting = chunk_work(clock)
    for _wait in range(3000):
        waiting._let_others_see()
    assert len(clock.slept) == len(heartbeats) == 3000
    assert max(clock.slept) <= 8.0
    assert min(clock.slept[100:]) >= 4.0


def test_back_off_of_many_tries_does_not_overflow(clock: Clock) -> None:
    waiting = chunk_work(clock)
    for tries in (1, 2, 10, 1100, 10**6):
        waiting._pause(0.25, tries)
    assert clock.slept[0] <= 0.5
    assert 4.0 <= clock.slept[-1] <= 8.0
