"""`geotag worker`: one Celery worker on one queue. `geotag beat`: the ticks of the control loop."""

import ctypes
import logging
import os
from contextlib import suppress

from geotag.context import Context
from geotag.settings import Settings, gather, secrets_of
from workers.broker.app import CONTROL, PLANNING, QUEUES, at_broker, make_app
from workers.chunks.context import WorkerContext
from workers.chunks.shutdown import pass_sigterm_on
from workers.errors import UsageError
from workers.telemetry import exporter, logs

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
        UsageError: no such queue or level, or the port for metrics cannot be bound.
    """
    if queue not in QUEUES:
        raise UsageError(f"no queue {queue}: {', '.join(QUEUES)}")
    _few_arenas()
    settings = _start(log_level)
    if metrics_port is not None:
        counters = settings.stack.data_dir / "metrics" / str(metrics_port)
        exporter.share_counters(counters)
        exporter.serve(counters, metrics_host, metrics_port)
    app = make_app(settings.worker)
    # These imports create counters, which must come after `share_counters`.
    from workers.chunks import tasks
    from workers.planning import control_loop

    if queue in (CONTROL, PLANNING):
        control_loop.register(app, control_loop.ControlLoop(Context(settings)))
        for name in ("celery.worker.strategy", "celery.app.trace"):  # four lines a tick
            logging.getLogger(name).setLevel(logging.WARNING)
    else:
        tasks.register(app, WorkerContext(settings.worker, settings.database))
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


def beat(log_level: str) -> None:
    """Send the messages of every tick until a signal ends it.

    It has no state: nothing is lost when it dies.

    Raises:
        UsageError: no such level.
    """
    app = make_app(_start(log_level).worker)
    app.start(
        [
            "--quiet",
            "beat",
            "--scheduler=workers.broker.beat:Scheduler",
            "--pidfile=",  # two beats do what one does
            f"--loglevel={log_level.upper()}",
        ]
    )


def _start(log_level: str) -> Settings:
    if log_level.upper() not in LOG_LEVELS:
        raise UsageError(f"no log level {log_level}: {', '.join(LOG_LEVELS)}")
    settings = gather()
    logs.configure(log_level, settings.worker.log_format, secrets_of(settings))
    return settings


def _few_arenas() -> None:
    """Have glibc keep two heaps instead of eight a core (mallopt(3), M_ARENA_MAX).

    Each thread that decodes large pictures would fragment a heap of its own, and a worker's memory
    would grow over thousands of photographs. Without glibc this does nothing.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
