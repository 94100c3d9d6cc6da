"""Celery beat, as this application needs it: it keeps nothing, and sends nothing twice."""

from typing import Any

from celery import beat

from workers.broker.app import TICKS, queued


class Scheduler(beat.Scheduler):
    """Sends no message where one waits: one is enough to have a worker look into the ledger.

    So none pile up while a worker is busy or away. Messages that expire would not do instead: a
    worker that cannot keep up finds only expired ones, and never looks.
    """

    def apply_async(self, entry: beat.ScheduleEntry, *args: Any, **keywords: Any) -> Any:
        """Send an entry's message, unless its queue holds one."""
        if queued(self.app, TICKS[str(entry.task)]):
            return None
        return super().apply_async(entry, *args, **keywords)
