"""Publish chunks from the ledger to the broker, and recall those that were lost there.

Any number of publishers may run at a time, and be killed: `geotag run` while it plans and watches,
and the worker of the queue `control` at every tick (workers/planning/control_loop.py).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from celery import Celery
from sqlalchemy import Engine

from db import dispatch
from db.planning import PlannedChunk
from workers.broker.app import BACKFILL, INTERACTIVE, BrokerUnavailable, publish, queued
from workers.telemetry import metrics

log = logging.getLogger(__name__)

_SECOND_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Publisher:
    """Publishes chunks with back-pressure.

    Args:
        engine: of the ledger.
        app: of the broker.
        most_queued: backfill chunks that are published and not finished, at most.
        lost_after: seconds before a published chunk without a worker may count as lost.
    """

    engine: Engine
    app: Celery
    most_queued: int
    lost_after: float

    def top_up(self, now: datetime | None = None) -> int:
        """Publish what may go and return the number of chunks; `now` is the ledger's time.

        Interactive chunks have no limit. Backfills fill the queue up to its limit, by archive in
        turn.

        Raises:
            BrokerUnavailable: the broker did not take a chunk; it is published again later.
        """
        now = now or dispatch.clock(self.engine)
        asked = dispatch.publish_waiting(self.engine, INTERACTIVE, now, self._send(INTERACTIVE))
        return asked + dispatch.publish_waiting(
            self.engine, BACKFILL, now, self._send(BACKFILL), self.most_queued
        )

    def sweep(self, now: datetime | None = None) -> int:
        """Recall chunks that may not be at the broker or were lost there; return how many.

        Raises:
            BrokerUnavailable: the broker cannot be asked what it holds.
        """
        now = now or dispatch.clock(self.engine)
        recalled = dispatch.recall_closed(self.engine, now)
        for queue in (INTERACTIVE, BACKFILL):
            if dispatch.any_overdue(self.engine, queue, now, self.lost_after):
                recalled += self._recall_lost(queue, now)
        metrics.RECALLED.inc(recalled)
        return recalled

    def _recall_lost(self, queue: str, now: datetime) -> int:
        seen = self._lost(queue, now)
        if not seen:
            return 0
        # A worker may have just taken a message and not begun its chunk yet, so look twice.
        time.sleep(_SECOND_LOOK_SECONDS)
        recalled = dispatch.recall(self.engine, seen & self._lost(queue, now))
        if recalled:
            log.warning("%d chunks of the queue %s were lost and are sent again", recalled, queue)
        return recalled

    def _lost(self, queue: str, now: datetime) -> set[int]:
        messages = queued(self.app, queue)
        return set(dispatch.lost_chunks(self.engine, queue, now, self.lost_after, messages))

    def round(self, now: datetime | None = None) -> None:
        """Sweep, then publish what may go, also if the broker cannot be asked what it holds.

        Raises:
            BrokerUnavailable: the broker did not take a chunk; the next round sends it.
        """
        try:
            self.sweep(now)
        except BrokerUnavailable as error:
            log.warning("lost chunks are not looked for: %s", error.message)
        self.top_up(now)

    def _send(self, queue: str) -> Callable[[PlannedChunk], None]:
        def send(chunk: PlannedChunk) -> None:
            publish(self.app, queue, chunk.chunk_id, chunk.delivery, chunk.object_version_ids)
            metrics.PUBLISHED.labels(queue).inc()

        return send
