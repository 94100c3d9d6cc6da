"""`geotag worker`: one Celery worker on one queue."""

import logging

from geotag.settings import gather
from workers.app import BACKFILL, INTERACTIVE, make_app
from workers.errors import UsageError
from workers.tasks import register
from workers.workplace import Workplace


def work(queue: str, processes: int, log_level: str) -> None:
    """Work on a queue until a signal ends it.

    Raises:
        UsageError: no such queue.
    """
    if queue not in (BACKFILL, INTERACTIVE):
        raise UsageError(f"no queue {queue}: {BACKFILL} or {INTERACTIVE}")
    logging.basicConfig(
        level=log_level.upper(),
        format="%(asctime)s %(levelname)s %(process)d %(name)s %(message)s",
    )
    settings = gather()
    app = make_app(settings.worker)
    register(app, Workplace(settings.worker, settings.database))
    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={processes}",
            f"--queues={queue}",
            f"--hostname={queue}-%n@%h",
            f"--loglevel={log_level.upper()}",
            "--without-gossip",
            "--without-mingle",
        ]
    )
