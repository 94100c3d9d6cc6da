"""The Celery task: a message becomes rows in the ledger, or goes back to its queue.

A worker process works on one chunk at a time (prefork, late acknowledgement), and on its objects
with threads.
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


def register(app: Celery, context: WorkerContext) -> None:
    """Register the task with the application."""

    # `forgiven` is the message's name for `last_handed_back`: messages in flight have it.
    @app.task(name=PROCESS_CHUNK, shared=False)
    def process_chunk(
        chunk_id: int, delivery: int, objects: list[int], queue: str, forgiven: int = 0
    ) -> None:
        in_time = context.deadline.heeding_sigterm(context.settings.shutdown_grace)
        with bound(chunk=chunk_id, delivery=delivery), in_time:
            try:
                end = work_chunk(context, chunk_id, delivery, forgiven)
                if end.handed_back:
                    log.warning("chunk %d goes back to the queue: %s", chunk_id, end.handed_back)
                    publish(app, queue, chunk_id, delivery, objects, end.last_handed_back)
            except BrokerUnavailable as error:
                # The broker still has this message, and delivers it again when it is available.
                raise Reject(error.message, requeue=True) from error
            except Exception as error:
                # The process's edge. Celery acknowledges a task that raises, so the chunk would
                # be lost until its source is planned again.
                log.exception("chunk %d: internal error", chunk_id)
                try:
                    record_fault(context, chunk_id, delivery, error)
                except Exception as again:
                    log.exception("chunk %d: cannot record it either", chunk_id)
                    time.sleep(_PAUSE_SECONDS)
                    raise Reject(str(again), requeue=True) from again
