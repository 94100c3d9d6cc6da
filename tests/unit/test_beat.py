"""Celery beat with our scheduler and an in-memory broker."""

from collections.abc import Iterator

import pytest
from celery import Celery
from pydantic import SecretStr

from workers.broker.app import TICKS, at_broker, make_app, queued
from workers.broker.beat import Scheduler
from workers.settings import WorkerSettings


@pytest.fixture
def app() -> Iterator[Celery]:
    app = make_app(WorkerSettings(broker_url=SecretStr("memory://"), tick_seconds=7.0))
    yield app
    with app.connection_for_write() as connection:
        for queue in TICKS.values():
            connection.SimpleQueue(at_broker(queue)).clear()


def tick(scheduler: Scheduler) -> None:
    """Send every entry, due or not."""
    for entry in scheduler.schedule.values():
        scheduler.apply_entry(entry, producer=scheduler.producer)


def waiting(app: Celery) -> list[int]:
    return [queued(app, queue) for queue in TICKS.values()]


def test_beat_sends_our_two_messages_only(app: Celery) -> None:
    schedule = Scheduler(app).schedule
    assert {entry.task for entry in schedule.values()} == set(TICKS)
    assert {entry.schedule.seconds for entry in schedule.values()} == {7.0}


def test_no_message_is_sent_where_one_waits(app: Celery) -> None:
    first, second = Scheduler(app), Scheduler(app)  # two beats
    for _ in range(5):
        tick(first)
        tick(second)
    assert waiting(app) == [1, 1]

    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(at_broker("control")).get(block=False)
        assert message.headers["task"] == "geotag.tick"
        message.ack()
    tick(second)
    assert waiting(app) == [1, 1]


def test_beat_survives_an_unavailable_broker(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unavailable(*_arguments: object) -> int:
        raise ConnectionError

    scheduler = Scheduler(app)
    with monkeypatch.context() as outage:
        outage.setattr("workers.broker.beat.queued", unavailable)
        tick(scheduler)
    assert "Message Error" in caplog.text
    tick(scheduler)
    assert waiting(app) == [1, 1]
