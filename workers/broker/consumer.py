"""Celery's consumer, as this application needs it at its broker."""

import random
import time

from celery.bootsteps import StartStopStep
from celery.worker import consumer
from celery.worker.consumer.connection import Connection

from workers.broker.visibility import RenewVisibility

_DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
_RECONNECT_WITHIN_SECONDS = 3.0


class DeclareQueues(StartStopStep):
    """Declares every queue at each (re)connection, also those that this worker does not read.

    A dead-letter exchange that does not exist swallows what RabbitMQ sends there, in silence.
    """

    requires = (Connection,)

    def start(self, parent: consumer.Consumer) -> None:
        """Declare them."""
        with parent.connection_for_write() as connection:
            for queue in parent.app.conf.task_queues:
                queue.bind(connection.default_channel).declare()


class Consumer(consumer.Consumer):
    """With `DeclareQueues` and `RenewVisibility`, and without delayed delivery.

    Beside quorum queues Celery would set up 28 more for messages with an ETA. We send none.
    """

    connection_errors: tuple[type[Exception], ...]

    def update_strategies(self) -> None:
        """Let an acknowledgement that fails end the connection.

        Celery logs it and goes on. At Valkey the message then counts as in hand for ever, and a
        worker that prefetches one asks for no other: it would be deaf until somebody restarts it.
        """
        kept, self.connection_errors = self.connection_errors, ()
        try:
            super().update_strategies()
        finally:
            self.connection_errors = kept

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait a moment of its own: not every worker is to be back at the broker at once."""
        super().on_connection_error_after_connected(exc)
        time.sleep(random.uniform(0, _RECONNECT_WITHIN_SECONDS))

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The steps between a connection and its messages."""

        default_steps = (
            *(s for s in consumer.Consumer.Blueprint.default_steps if s != _DELAYED_DELIVERY),
            DeclareQueues,
            RenewVisibility,
        )
