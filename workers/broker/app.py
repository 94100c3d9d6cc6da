"""The Celery application: queues, delivery guarantees, and the messages of chunks.

The broker is only transport: results are ignored, delivery is at least once, and everything that
must survive is in the ledger. Two queues with their own consumers keep a person's request
(`interactive`) from waiting behind a night's work (`backfill`), because message priority differs in
sign between brokers. Two more queues carry the messages of beat
(workers/planning/control_loop.py): planning a million objects (`planning`) must not delay a tick
(`control`).
"""

from collections.abc import Sequence

from amqp.exceptions import AMQPError, MessageNacked
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from workers.errors import TransientError
from workers.settings import WorkerSettings

BACKFILL = "backfill"
INTERACTIVE = "interactive"
CONTROL = "control"
PLANNING = "planning"
QUEUES = (BACKFILL, INTERACTIVE, CONTROL, PLANNING)
PROCESS_CHUNK = "geotag.process_chunk"
TICK = "geotag.tick"
PLAN = "geotag.plan"
TICKS = {TICK: CONTROL, PLAN: PLANNING}
"""The tasks that beat sends, each with its queue."""

_EXCHANGE = "geotag"
_DEAD = "geotag.dead"
# The ledger isolates poison messages earlier; this bounds those that it never saw.
_DELIVERY_LIMIT = 20


class BrokerUnavailable(TransientError):
    """The broker cannot be reached, or refuses."""

    code = "broker_unavailable"


def at_broker(queue: str) -> str:
    """Return a queue's name at the broker, which other applications may share."""
    return f"geotag.{queue}"


def _queues(quorum: bool) -> tuple[Queue, ...]:
    names = [at_broker(queue) for queue in QUEUES]
    exchange = Exchange(_EXCHANGE, type="direct")
    if not quorum:
        return tuple(Queue(name, exchange, routing_key=name) for name in names)
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": _DELIVERY_LIMIT,
        "x-dead-letter-exchange": _DEAD,
    }
    dead = Queue(_DEAD, Exchange(_DEAD, type="fanout"), queue_arguments={"x-queue-type": "quorum"})
    return (
        *(Queue(name, exchange, routing_key=name, queue_arguments=arguments) for name in names),
        dead,
    )


def make_app(settings: WorkerSettings) -> Celery:
    """Make the application for a broker: RabbitMQ with quorum queues, or Valkey."""
    url = settings.broker_url.get_secret_value()
    quorum = url.startswith(("amqp://", "amqps://"))
    app = Celery("geotag", broker=url, set_as_current=False)
    app.conf.update(
        task_queues=_queues(quorum),
        task_default_queue=at_broker(BACKFILL),
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # At least once: a message is acknowledged when its chunk is in the ledger, not before.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # Celery kills a pool process that is not up in 4 seconds: on an overloaded machine it
        # would go on killing them.
        worker_proc_alive_timeout=60.0,
        worker_prefetch_multiplier=1,
        worker_consumer="workers.broker.consumer:Consumer",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # RabbitMQ closes the channel of a chunk that takes longer than its `consumer_timeout`. A
        # worker that ended for that would count as a crash of every object in the chunk.
        broker_channel_error_retry=True,
        # Nobody asks, and it would put queues of Celery's own names on a broker that others share.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        beat_schedule={
            task: {
                "task": task,
                "schedule": settings.tick_seconds,
                "options": {"queue": at_broker(queue)},
            }
            for task, queue in TICKS.items()
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=(
            {"confirm_publish": True}
            if quorum
            else {
                "visibility_timeout": settings.visibility_timeout,
                "unacked_restore_interval": 1,
                "socket_keepalive": True,
            }
        ),
    )
    return app


def publish(
    app: Celery,
    queue: str,
    chunk_id: int,
    delivery: int,
    object_version_ids: Sequence[int],
    forgiven: int = 0,
) -> None:
    """Put a chunk's message on a queue; for `forgiven` see `db.ledger.begin_chunk`.

    Raises:
        BrokerUnavailable: the broker did not take it, after a few tries.
    """
    try:
        app.send_task(
            PROCESS_CHUNK,
            kwargs={
                "chunk_id": chunk_id,
                "delivery": delivery,
                "objects": list(object_version_ids),
                "queue": queue,
                "forgiven": forgiven,
            },
            queue=at_broker(queue),
            retry=True,
            retry_policy={"max_retries": 3, "interval_start": 0.2, "interval_step": 0.5},
        )
    except _refusals(app) as error:
        raise BrokerUnavailable(f"the broker did not take a chunk: {error}") from error


def _refusals(app: Celery) -> tuple[type[Exception], ...]:
    """Return the exceptions of clients if the broker is unavailable or refuses."""
    transport = app.connection_for_write().transport
    own = (*transport.connection_errors, *transport.channel_errors)
    return (OperationalError, AMQPError, MessageNacked, OSError, *own)


def queued(app: Celery, queue: str) -> int:
    """Return the number of messages that wait in a queue.

    Raises:
        BrokerUnavailable: the broker cannot be asked.
    """
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            (wanted,) = (q for q in app.conf.task_queues if q.name == at_broker(queue))
            return int(wanted.bind(connection.default_channel).queue_declare().message_count)
    except _refusals(app) as error:
        raise BrokerUnavailable(f"the broker cannot be asked: {error}") from error
