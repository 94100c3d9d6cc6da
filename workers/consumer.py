"""Celery's consumer, as this application needs it at its broker."""

from celery.bootsteps import StartStopStep
from celery.worker import consumer
from celery.worker.consumer.connection import Connection

_DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


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
    """With `DeclareQueues`, and without delayed delivery.

    Beside quorum queues Celery would set up 28 more for messages with an ETA. We send none.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc, valid-type]
        """The steps between a connection and its messages."""

        default_steps = (
            *(s for s in consumer.Consumer.Blueprint.default_steps if s != _DELAYED_DELIVERY),
            DeclareQueues,
        )
