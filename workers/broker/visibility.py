"""Keep a chunk in hand from being delivered a second time, however long it takes.

Valkey delivers a message again that is not acknowledged within the visibility timeout. A worker
that is alive renews that time for the messages in its hands, so the timeout need only be longer
than the renewal interval, not than the longest chunk. RabbitMQ has a time-out of its own, the
server's `consumer_timeout`, which no client can renew.
"""

import logging
import time
from typing import Any

from celery.bootsteps import StartStopStep
from celery.worker.consumer.tasks import Tasks
from kombu.transport.redis import Channel, Transport

log = logging.getLogger(__name__)

_RENEWALS_PER_TIMEOUT = 4


class RenewVisibility(StartStopStep):
    """Renews the visibility of unacknowledged messages from the worker's event loop."""

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        """Begin, at a broker that has a visibility timeout. A lost connection ends it."""
        channel = parent.task_consumer.channel
        if isinstance(channel, Channel):
            seconds = channel.visibility_timeout / _RENEWALS_PER_TIMEOUT
            parent.timer.call_repeatedly(seconds, renew, (channel,))


def renew(channel: Any) -> None:
    """Set the delivery time of a channel's unacknowledged messages to now.

    Messages that were acknowledged or restored meanwhile stay gone.
    """
    tags = list(channel.qos._delivered)
    if not tags:
        return
    try:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
    except Transport.connection_errors as error:
        # The consumer notices as well, and reconnects; the next renewal comes in time.
        log.warning("the visibility of %d messages is not renewed: %s", len(tags), error)
