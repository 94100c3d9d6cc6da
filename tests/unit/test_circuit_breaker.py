"""The circuit breaker of a worker process, with a clock that the test advances."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from workers.chunks import circuit_breaker
from workers.chunks.circuit_breaker import CircuitBreaker
from workers.chunks.shutdown import Deadline


class Clock(Deadline):
    """A clock that advances with sleeps and with the probes of slow services."""

    now = 1000.0
    end = float("inf")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def passed(self) -> bool:
        return self.now >= self.end


class AtOnce(Executor):
    """An executor that runs a call before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def process_at(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, AtOnce())


class Service:
    """A service that is unavailable until a time; until then a probe takes `takes` seconds."""

    def __init__(self, clock: Clock, takes: float = 0.0, back_at: float = float("inf")) -> None:
        self.clock, self.takes, self.back_at = clock, takes, back_at
        self.asked = 0

    def answers(self) -> bool:
        self.asked += 1
        if self.clock.now < self.back_at:
            self.clock.now += self.takes
        return self.clock.now >= self.back_at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(circuit_breaker, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_service_that_recovers_in_time_is_not_remembered(clock: Clock) -> None:
    process, service, beats = process_at(clock), Service(clock, back_at=1010), []
    assert process.wait_for(service.answers, 30, lambda: beats.append(clock.now))
    assert 1010 <= clock.now < 1012
    assert len(beats) == service.asked - 1 > 0
    assert process.all_available([service.answers], beats.clear)
    assert len(beats) == service.asked - 1  # the service was not probed again


def test_service_that_stays_unavailable_is_remembered_until_it_answers(clock: Clock) -> None:
    process, service, other = process_at(clock), Service(clock), Service(clock)
    assert not process.wait_for(service.answers, 30, lambda: None)
    assert 1030 <= clock.now < 1032
    assert not process.all_available([service.answers, other.answers], lambda: None)
    assert process.all_available([other.answers], lambda: None)
    assert other.asked == 0
    service.back_at = clock.now
    assert process.all_available([service.answers, other.answers], lambda: None)
    assert process.retry_at == {}


@pytest.mark.parametrize(("takes", "share"), [(2.0, 0.1), (5.0, 0.1), (30.0, 0.34), (60.0, 0.5)])
def test_service_that_hangs_takes_a_share_of_the_time(
    clock: Clock, takes: float, share: float
) -> None:
    """A tenth; but after a minute it is probed again, however long that takes."""
    process, service = process_at(clock), Service(clock, takes)
    process.wait_for(service.answers, 10, lambda: None)
    begun, asked = clock.now, service.asked
    while clock.now < begun + 10_000:
        assert not process.all_available([service.answers], lambda: None)
    assert 0.8 * share <= (service.asked - asked) * takes / (clock.now - begun) <= share


def test_service_that_refuses_is_probed_before_each_chunk(clock: Clock) -> None:
    process, service = process_at(clock), Service(clock)
    process.wait_for(service.answers, 10, lambda: None)
    asked, begun = service.asked, clock.now
    for _chunk in range(100):
        assert not process.all_available([service.answers], lambda: None)
    assert service.asked - asked >= 100
    assert clock.now - begun < 200


def test_service_that_hangs_does_not_keep_a_worker_that_must_stop() -> None:
    deadline, hung = Deadline(), threading.Event()
    with ThreadPoolExecutor(1) as threads, deadline.heeding_sigterm(0.5):
        os.kill(os.getpid(), signal.SIGTERM)
        assert not CircuitBreaker(deadline, threads).answers(hung.wait)
        hung.set()  # the probe had not returned by then


def test_worker_that_must_stop_waits_no_longer(clock: Clock) -> None:
    clock.end = 1005
    assert not process_at(clock).wait_for(Service(clock).answers, 30, lambda: None)
    assert clock.now < 1007
