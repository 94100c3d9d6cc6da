"""`geotag worker`: one Celery worker on one queue."""

import ctypes
import os
from contextlib import suppress

from geotag.settings import gather, secrets_of
from workers import exporter, logs
from workers.app import BACKFILL, INTERACTIVE, at_broker, make_app
from workers.errors import UsageError
from workers.shutdown import pass_sigterm_on
from workers.workplace import Workplace

LOOPBACK = "127.0.0.1"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_M_ARENA_MAX = -8  # malloc.h


def work(
    queue: str,
    processes: int,
    log_level: str,
    metrics_port: int | None = None,
    metrics_host: str = LOOPBACK,
) -> None:
    """Work on a queue until a signal ends it.

    Raises:
        UsageError: no such queue or level, or the port for metrics cannot be had.
    """
    if queue not in (BACKFILL, INTERACTIVE):
        raise UsageError(f"no queue {queue}: {BACKFILL} or {INTERACTIVE}")
    if log_level.upper() not in LOG_LEVELS:
        raise UsageError(f"no log level {log_level}: {', '.join(LOG_LEVELS)}")
    _few_arenas()
    settings = gather()
    logs.configure(log_level, settings.worker.log_format, secrets_of(settings))
    if metrics_port is not None:
        counters = settings.stack.data_dir / "metrics" / str(metrics_port)
        exporter.share_counters(counters)
        exporter.serve(counters, metrics_host, metrics_port)
    # Counters are made when this is imported: after their place is known.
    from workers.tasks import register

    app = make_app(settings.worker)
    register(app, Workplace(settings.worker, settings.database))
    pass_sigterm_on()
    app.worker_main(
        [
            "--quiet",  # no banner: every line of the log is one of ours
            "worker",
            "--pool=prefork",
            f"--concurrency={processes}",
            f"--queues={at_broker(queue)}",
            f"--hostname={queue}-{os.getpid()}@%h",
            f"--loglevel={log_level.upper()}",
            "--without-gossip",
            "--without-mingle",
        ]
    )


def _few_arenas() -> None:
    """Have glibc keep two heaps instead of eight a core (mallopt(3), M_ARENA_MAX).

    Each thread that decodes large pictures would leave a heap of its own in pieces behind, and a
    worker would grow for thousands of photographs. Elsewhere than on glibc there is nothing to do.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
