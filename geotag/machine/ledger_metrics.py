"""Serve metrics of the ledger to Prometheus: `geotag metrics`."""

import threading
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.exc import SQLAlchemyError

from db.monitoring import Sample, ledger_samples
from geotag.context import Context
from geotag.output import errors
from workers.errors import UsageError

KEPT_SECONDS = 10.0
"""Least time between two queries of the ledger; scrapes in between get the cached samples."""

HELP = {
    "geotag_unfinished_chunks": "Unfinished chunks, at the broker or waiting in the ledger.",
    "geotag_oldest_pending_age_seconds": "Age in seconds of the oldest run with pending objects."
    " Paused runs and runs outside their window are not counted.",
    "geotag_oldest_published_age_seconds": "Seconds since the oldest unfinished chunk was"
    " published.",
    "geotag_oldest_heartbeat_age_seconds": "Seconds since the last heartbeat of the most silent"
    " worker with a chunk; 0 if no worker has one.",
    "geotag_recent_failures": "Objects that failed or were quarantined in the last 24 hours.",
    "geotag_failing_plans": "Runs whose last planning ended in an error, including parked ones.",
    "geotag_due_schedules": "Schedules whose night is due and has not started.",
    "geotag_oldest_due_schedule_age_seconds": "Seconds since the first of these nights was due.",
}


class LedgerCollector:
    """Collector of the ledger's samples, cached for `KEPT_SECONDS`."""

    def __init__(
        self, ask: Callable[[], list[Sample]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._asked_at = -KEPT_SECONDS
        self._samples: list[Sample] | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the metrics; only `geotag_ledger_up` while the ledger is unavailable."""
        samples = self._newest()
        up = GaugeMetricFamily("geotag_ledger_up", "Whether the ledger answered in time.")
        up.add_metric([], samples is not None)
        yield up
        for metric, about in HELP.items():
            mine = [sample for sample in samples or () if sample.metric == metric]
            names = sorted(mine[0].labels) if mine else []
            family = GaugeMetricFamily(metric, about, labels=names)
            for sample in mine:
                family.add_metric([sample.labels[name] for name in names], sample.value)
            yield family

    def _newest(self) -> list[Sample] | None:
        with self._one_at_a_time:
            if self._clock() - self._asked_at >= KEPT_SECONDS:
                try:
                    self._samples = self._ask()
                except SQLAlchemyError as error:
                    # Reported as geotag_ledger_up 0; the next scrape tries again.
                    errors.print(f"the ledger did not answer: {type(error).__name__}")
                    self._samples = None
                self._asked_at = self._clock()
            return self._samples


def serve(context: Context, host: str, port: int) -> None:
    """Serve metrics until a signal ends the process.

    Raises:
        UsageError: the port cannot be bound.
        DatabaseUrlMissing: no database is configured.
    """
    engine = context.engine
    registry = CollectorRegistry()
    registry.register(LedgerCollector(lambda: ledger_samples(engine)))
    try:
        _server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--port {port} on {host}: {error.strerror}") from error
    errors.print(f"metrics of the ledger: http://{host}:{port}/metrics", highlight=False)
    thread.join()
