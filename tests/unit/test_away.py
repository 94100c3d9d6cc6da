"""How a worker process waits for services that are away, by a clock that the test moves."""

from types import SimpleNamespace

import pytest

from workers import away
from workers.away import Away
from workers.shutdown import Deadline


class Clock(Deadline):
    """Time passes where somebody sleeps, and in services that take long to say nothing."""

    now = 1000.0
    end = float("inf")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def passed(self) -> bool:
        return self.now >= self.end


class Service:
    """Away until a moment; asking it takes a while until then."""

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
    monkeypatch.setattr(away, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_service_that_comes_back_in_time_is_forgotten(clock: Clock) -> None:
    process, service, beats = Away(clock), Service(clock, back_at=1010), []
    assert process.wait_for(service.answers, 30, lambda: beats.append(clock.now))
    assert 1010 <= clock.now < 1012
    assert len(beats) == service.asked - 1 > 0
    assert process.all_back([service.answers], beats.clear)
    assert len(beats) == service.asked - 1  # nobody was asked again


def test_service_that_stays_away_is_remembered_until_it_answers(clock: Clock) -> None:
    process, service, other = Away(clock), Service(clock), Service(clock)
    assert not process.wait_for(service.answers, 30, lambda: None)
    assert 1030 <= clock.now < 1032
    assert not process.all_back([service.answers, other.answers], lambda: None)
    assert process.all_back([other.answers], lambda: None)
    assert other.asked == 0
    service.back_at = clock.now
    assert process.all_back([service.answers, other.answers], lambda: None)
    assert process.ask_from == {}


@pytest.mark.parametrize(("takes", "share"), [(0.0, 0.01), (2.0, 0.2), (5.0, 0.2), (100.0, 0.7)])
def test_service_that_hangs_takes_a_share_of_the_time(
    clock: Clock, takes: float, share: float
) -> None:
    """A tenth of it, and the pauses; but what takes long is asked once a minute all the same."""
    process, service = Away(clock), Service(clock, takes)
    process.wait_for(service.answers, 10, lambda: None)
    begun, asked, chunks = clock.now, service.asked, 0
    while clock.now < begun + 10_000:
        assert not process.all_back([service.answers], lambda: None)
        chunks += 1
    assert (service.asked - asked) * takes <= share * (clock.now - begun)
    assert service.asked - asked >= 10_000 / (60 + takes + 1.5) - 1
    assert chunks > 10


def test_worker_that_must_stop_waits_no_longer(clock: Clock) -> None:
    clock.end = 1005
    assert not Away(clock).wait_for(Service(clock).answers, 30, lambda: None)
    assert clock.now < 1007
