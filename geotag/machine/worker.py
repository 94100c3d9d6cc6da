"""Run a Celery worker on one queue (`geotag worker`), or the ticks of the control loop (`beat`)."""

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
    """Work on a queue until a signal ends the process.

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
    # Imported here: these modules create counters, which must come after `share_counters`.
    from workers.chunks import tasks
    from workers.planning import control_loop

    if queue in (CONTROL, PLANNING):
        control_loop.register(app, control_loop.ControlLoop(Context(settings)))
        for name in ("celery.worker.strategy", "celery.app.trace"):  # else four lines per tick
            logging.getLogger(name).setLevel(logging.WARNING)
    else:
        tasks.register(app, WorkerContext(settings.worker, settings.database))
    pass_sigterm_on()
    app.worker_main(
        [
            "--quiet",  # no banner: it is not in the log format
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
    """Send the messages of every tick until a signal ends the process.

    It is stateless: nothing is lost if it dies.

    Raises:
        UsageError: no such level.
    """
    app = make_app(_start(log_level).worker)
    app.start(
        [
            "--quiet",
            "beat",
            "--scheduler=workers.broker.beat:Scheduler",
            "--pidfile=",  # none: several may run at once
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
    """Limit glibc to two heaps instead of eight per core (mallopt(3), M_ARENA_MAX).

    Otherwise each thread that decodes large pictures fragments a heap of its own, and a worker's
    memory grows over thousands of photographs. Without glibc this does nothing.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
