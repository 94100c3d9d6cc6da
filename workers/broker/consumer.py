"""Celery's consumer with declared queues, renewed visibility and no delayed delivery."""

import random
import time

from celery.bootsteps import StartStopStep
from celery.worker import consumer
from celery.worker.consumer.connection import Connection

from workers.broker.visibility import RenewVisibility

_DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
_RECONNECT_WITHIN_SECONDS = 3.0


class DeclareQueues(StartStopStep):
    """Declare every queue at each (re)connection, including those that this worker does not read.

    RabbitMQ silently drops messages to a dead-letter exchange that does not exist.
    """

    requires = (Connection,)

    def start(self, parent: consumer.Consumer) -> None:
        """Declare the queues."""
        with parent.connection_for_write() as connection:
            for queue in parent.app.conf.task_queues:
                queue.bind(connection.default_channel).declare()


class Consumer(consumer.Consumer):
    """Celery's consumer with `DeclareQueues` and `RenewVisibility`, without delayed delivery.

    For quorum queues, Celery's delayed delivery declares 28 queues for messages with an ETA. This
    application sends none.
    """

    connection_errors: tuple[type[Exception], ...]

    def update_strategies(self) -> None:
        """Let a failed acknowledgement end the connection.

        Celery logs the error and continues. With Valkey the message then counts as unacknowledged
        for ever, so a worker that prefetches one message receives no other until it is restarted.
        """
        kept, self.connection_errors = self.connection_errors, ()
        try:
            super().update_strategies()
        finally:
            self.connection_errors = kept

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait a random time (jitter), so that not all workers reconnect at once."""
        super().on_connection_error_after_connected(exc)
        time.sleep(random.uniform(0, _RECONNECT_WITHIN_SECONDS))

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The start-up steps of the consumer."""

        default_steps = (
            *(s for s in consumer.Consumer.Blueprint.default_steps if s != _DELAYED_DELIVERY),
            DeclareQueues,
            RenewVisibility,
        )
