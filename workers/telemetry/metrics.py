"""Prometheus metrics of workers and planners.

No label contains a key, so a million objects make a few series. `geotag worker --metrics-port`
serves these metrics (`workers/telemetry/exporter.py`); `geotag metrics` serves those of the ledger.
docs/monitoring.md explains each name.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from workers.telemetry.logs import at_stage

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

OBJECTS = Counter("geotag_objects", "Objects that got an outcome.", ["state", "code"])
ATTEMPTS = Counter("geotag_attempts", "Objects begun, once for each delivery of their chunk.")
RETRIES = Counter("geotag_retries", "Tries that ended in a transient error.", ["code"])
CRASHES = Counter("geotag_worker_crashes", "Chunks found whose worker had died with them.")
CHUNKS = Gauge("geotag_chunks_in_flight", "Chunks in progress.", multiprocess_mode="livesum")
LISTED = Counter("geotag_listed_objects", "Photographs that a planner came across.")
PLANNED = Counter("geotag_planned_objects", "Objects that a planner put into chunks.")
PUBLISHED = Counter("geotag_published_chunks", "Chunks sent to the broker.", ["queue"])
RECALLED = Counter("geotag_recalled_chunks", "Chunks taken back: lost, or not to be done now.")
STAGE_SECONDS = Histogram(
    "geotag_stage_duration_seconds",
    "One step of the work: fetch, read, infer (an object each), write (what a chunk came to),"
    " plan (a page of a listing).",
    ["stage"],
    buckets=_SECONDS,
)
OBJECT_SECONDS = Histogram(
    "geotag_object_duration_seconds", "One try at one object, without writing.", buckets=_SECONDS
)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a step of the work, and bind its name for log lines."""
    at_stage(name)
    with STAGE_SECONDS.labels(name).time():
        yield
