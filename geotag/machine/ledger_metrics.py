"""`geotag metrics`: what the ledger knows, for Prometheus."""

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
"""However often it is asked, the ledger is looked into no more often than this."""

HELP = {
    "geotag_unfinished_chunks": "Chunks that are not finished, at the broker or in the ledger.",
    "geotag_oldest_pending_age_seconds": "Since the oldest run was asked for that has objects to do"
    " which may go (neither paused nor outside their window).",
    "geotag_oldest_published_age_seconds": "Since the oldest unfinished chunk went to the broker.",
    "geotag_oldest_heartbeat_age_seconds": "Since the quietest worker that has a chunk was heard"
    " of; 0 where none has.",
    "geotag_recent_failures": "Objects that failed or went into quarantine in the last 24 hours.",
    "geotag_failing_plans": "Runs whose last planning ended in an error.",
    "geotag_due_schedules": "Schedules whose night has come and was not started yet.",
    "geotag_oldest_due_schedule_age_seconds": "Since the first of those nights was due.",
}


class LedgerCollector:
    """The ledger's samples, at most `KEPT_SECONDS` old, and whether it could be asked."""

    def __init__(
        self, ask: Callable[[], list[Sample]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._asked_at = -KEPT_SECONDS
        self._samples: list[Sample] | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics, as a registry asks for them; while the ledger is away, only that."""
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
                    # The edge of this process: Prometheus is told, and asks again.
                    errors.print(f"the ledger did not answer: {type(error).__name__}")
                    self._samples = None
                self._asked_at = self._clock()
            return self._samples


def serve(context: Context, host: str, port: int) -> None:
    """Answer Prometheus until a signal ends it.

    Raises:
        UsageError: the port cannot be had.
        DatabaseUrlMissing: no ledger is known.
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
