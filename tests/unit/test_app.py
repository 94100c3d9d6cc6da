"""The Celery application: guarantees on each broker, and a broker that is unavailable."""

import socket
from typing import Any

import pytest
from amqp.exceptions import MessageNacked, PreconditionFailed
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer.delayed_delivery import DelayedDelivery
from kombu import Connection
from kombu.utils.imports import symbol_by_name

from workers.broker.app import (
    BACKFILL,
    INTERACTIVE,
    PROCESS_CHUNK,
    QUEUES,
    BrokerUnavailable,
    at_broker,
    make_app,
    publish,
    queued,
)
from workers.broker.consumer import Consumer, DeclareQueues
from workers.broker.visibility import RenewVisibility
from workers.settings import WorkerSettings


def settings(url: str = "memory://", **changes: Any) -> WorkerSettings:
    return WorkerSettings(broker_url=url, **changes)


RABBITMQ = "amqp://user:password@127.0.0.1:1/vhost"
VALKEY = "redis://:password@127.0.0.1:1/0"


@pytest.mark.parametrize("url", [RABBITMQ, VALKEY])
def test_a_message_is_acknowledged_after_its_chunk(url: str) -> None:
    conf = make_app(settings(url)).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"


def test_rabbitmq_queues_are_quorum_queues_with_a_dead_letter_queue() -> None:
    queues = {queue.name: queue for queue in make_app(settings(RABBITMQ)).conf.task_queues}
    names = {at_broker(queue) for queue in QUEUES}
    assert names < set(queues)
    for name in names:
        arguments = queues[name].queue_arguments
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-delivery-limit"] > settings().crash_tries
        assert arguments["x-dead-letter-exchange"] in {q.exchange.name for q in queues.values()}
        assert queues[name].routing_key == name
    assert all(name.startswith("geotag.") for name in queues)
    assert make_app(settings(RABBITMQ)).conf.broker_transport_options == {"confirm_publish": True}


def test_valkey_redelivers_after_the_visibility_timeout_of_the_settings() -> None:
    conf = make_app(settings(VALKEY, visibility_timeout=77)).conf
    assert conf.broker_transport_options["visibility_timeout"] == 77
    assert {queue.name for queue in conf.task_queues} == {at_broker(queue) for queue in QUEUES}


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
def test_kind_of_an_encrypted_broker(scheme: str) -> None:
    queues = make_app(settings(f"{scheme}://u:p@host:1/0")).conf.task_queues
    is_quorum = any("x-queue-type" in (queue.queue_arguments or {}) for queue in queues)
    assert is_quorum == (scheme == "amqps")


def test_the_application_never_shows_the_password() -> None:
    app = make_app(settings("redis://:hunter2@127.0.0.1:1/0"))
    assert "hunter2" not in repr(app) + repr(app.connection()) + str(app.conf.humanize())


def test_message_names_its_chunk_and_its_objects() -> None:
    app = make_app(settings("memory://"))
    publish(app, INTERACTIVE, 7, 2, (3, 4))
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(at_broker(INTERACTIVE)).get(block=False)
        _arguments, keywords, _embedded = message.payload
        message.ack()
    assert message.headers["task"] == PROCESS_CHUNK
    expected = {"chunk_id": 7, "delivery": 2, "objects": [3, 4], "queue": INTERACTIVE}
    assert keywords.items() >= expected.items()


def test_waiting_messages_are_counted_by_queue() -> None:
    app = make_app(settings("memory://"))
    with app.connection_for_write() as connection:
        connection.SimpleQueue(at_broker(BACKFILL)).clear()
    before = queued(app, BACKFILL)
    publish(app, BACKFILL, 1, 1, (1,))
    publish(app, BACKFILL, 2, 1, (2,))
    assert queued(app, BACKFILL) == before + 2


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@127.0.0.1:{}/0", "amqp://u:hunter2@127.0.0.1:{}/v"]
)
def test_unavailable_broker_is_reported_without_its_password(url: str, free_port: int) -> None:
    app = make_app(settings(url.format(free_port)))
    for ask in (lambda: publish(app, BACKFILL, 1, 1, (1,)), lambda: queued(app, BACKFILL)):
        with pytest.raises(BrokerUnavailable) as caught:
            ask()
        assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("error", [MessageNacked(), PreconditionFailed("inequivalent arg")])
def test_refusing_broker_is_unavailable(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(settings())

    def refuse(*_arguments: Any, **_keywords: Any) -> None:
        raise error

    monkeypatch.setattr(app, "send_task", refuse)
    with pytest.raises(BrokerUnavailable):
        publish(app, BACKFILL, 1, 1, (1,))


@pytest.mark.parametrize("url", [RABBITMQ, VALKEY])
def test_a_worker_declares_its_queues_and_delays_nothing(url: str) -> None:
    steps = {step.name for step in map(symbol_by_name, Consumer.Blueprint.default_steps)}
    assert make_app(settings(url)).conf.worker_consumer == f"{Consumer.__module__}:Consumer"
    assert {DeclareQueues.name, RenewVisibility.name} <= steps
    assert DelayedDelivery.name not in steps
    assert {step.name for step in map(symbol_by_name, CeleryConsumer.Blueprint.default_steps)} == (
        steps - {DeclareQueues.name, RenewVisibility.name} | {DelayedDelivery.name}
    )


@pytest.mark.parametrize("url", [RABBITMQ, VALKEY])
def test_channel_that_the_broker_closes_does_not_end_the_worker(url: str) -> None:
    """RabbitMQ closes a channel when a chunk takes longer than its consumer_timeout."""
    assert make_app(settings(url)).conf.broker_channel_error_retry is True


def test_kombu_knows_the_schemes() -> None:
    for url in (RABBITMQ, VALKEY):
        assert Connection(url).transport_cls
