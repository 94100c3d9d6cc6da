"""Scheduler of Celery beat that keeps no state and never queues a message twice."""

from typing import Any

from celery import beat

from workers.broker.app import TICKS, queued


class Scheduler(beat.Scheduler):
    """Sends a message only if its queue is empty: one message makes a worker read the ledger.

    So messages do not pile up while a worker is busy or stopped. Messages with an expiry would not
    do: a worker that cannot keep up would only find expired ones.
    """

    def apply_async(self, entry: beat.ScheduleEntry, *args: Any, **keywords: Any) -> Any:
        """Send an entry's message, unless its queue has one."""
        if queued(self.app, TICKS[str(entry.task)]):
            return None
        return super().apply_async(entry, *args, **keywords)
