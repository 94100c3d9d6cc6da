"""Renew the visibility timeout of messages in progress, so that Valkey delivers each only once.

Valkey delivers a message again if it is not acknowledged within the visibility timeout. A live
worker renews that time for its unacknowledged messages. So the timeout must exceed the renewal
interval, not the duration of the longest chunk. RabbitMQ has the server's `consumer_timeout`
instead, which no client can renew.
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
    """Renew the visibility of unacknowledged messages from the worker's event loop."""

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        """Start the renewal if the broker is Valkey. It ends with the connection."""
        channel = parent.task_consumer.channel
        if isinstance(channel, Channel):
            seconds = channel.visibility_timeout / _RENEWALS_PER_TIMEOUT
            parent.timer.call_repeatedly(seconds, renew, (channel,))


def renew(channel: Any) -> None:
    """Set the delivery time of a channel's unacknowledged messages to now.

    `XX` updates only existing members: messages acknowledged or restored since are not added.
    """
    tags = list(channel.qos._delivered)
    if not tags:
        return
    try:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
    except Transport.connection_errors as error:
        # The consumer sees the error too and reconnects. The next renewal is still in time.
        log.warning("cannot renew the visibility of %d messages: %s", len(tags), error)
