"""The one Celery task: a message is answered by rows, or it goes back to its queue.

A worker process takes up one chunk at a time (prefork, late acknowledgement) and works on its
objects with threads.
"""

import logging
import time

from celery import Celery
from celery.exceptions import Reject

from workers.broker.app import PROCESS_CHUNK, BrokerUnavailable, publish
from workers.chunks.context import WorkerContext
from workers.chunks.work import record_fault, work_chunk
from workers.telemetry.logs import bound

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 2.0


def register(app: Celery, place: WorkerContext) -> None:
    """Teach the application its one task."""

    @app.task(name=PROCESS_CHUNK, shared=False)
    def process_chunk(
        chunk_id: int, delivery: int, objects: list[int], queue: str, forgiven: int = 0
    ) -> None:
        in_time = place.deadline.heeding_sigterm(place.settings.shutdown_grace)
        with bound(chunk=chunk_id, delivery=delivery), in_time:
            try:
                end = work_chunk(place, chunk_id, delivery, forgiven)
                if end.handed_back:
                    log.warning("chunk %d goes back to the queue: %s", chunk_id, end.handed_back)
                    publish(app, queue, chunk_id, delivery, objects, end.forgiven)
            except BrokerUnavailable as error:
                # The broker still has this message, and gives it to somebody when it is back.
                raise Reject(error.message, requeue=True) from error
            except Exception as error:
                # The process's edge. Celery would acknowledge a task that raised: the chunk would
                # be lost until somebody planned again.
                log.exception("chunk %d: internal error", chunk_id)
                try:
                    record_fault(place, chunk_id, delivery, error)
                except Exception as again:
                    log.exception("chunk %d: cannot record it either", chunk_id)
                    time.sleep(_PAUSE_SECONDS)
                    raise Reject(str(again), requeue=True) from again
