"""One answer to Prometheus from the counts of several processes, killed ones included."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from workers.errors import UsageError
from workers.telemetry.exporter import Counted, serve

COUNTS = """
import os, signal, sys
from workers.telemetry.exporter import share_counters
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from workers.telemetry import metrics
metrics.OBJECTS.labels("failed", "corrupt").inc(3)
metrics.CHUNKS.inc()
with metrics.stage("read"):
    pass
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
print("counted", flush=True)
sys.stdin.read()
"""


def counting(folder: Path, end: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COUNTS, str(folder), end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(folder: Path) -> dict[str, float]:
    """Return the values by series, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(Counted(folder))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (
        line.rsplit(" ", 1) for line in lines if not line.startswith("#")
    )}  # fmt: skip


FAILED = 'geotag_objects_total{code="corrupt",state="failed"}'
READ = 'geotag_stage_duration_seconds_count{stage="read"}'


def test_counters_of_dead_processes_stay_and_their_gauges_go(tmp_path: Path) -> None:
    for _ in range(2):
        assert counting(tmp_path, "die").wait() == -9
    living = counting(tmp_path, "live")
    assert living.stdout is not None
    living.stdout.readline()

    for _ in range(3):  # the second scrape is equal
        said = asked(tmp_path)
        assert said[FAILED] == 9
        assert said[READ] == 3
        assert said["geotag_chunks_in_flight"] == 1
    pids = {path.stem.rpartition("_")[2] for path in tmp_path.iterdir()}
    assert pids == {"0", str(living.pid)}

    living.communicate("")
    assert asked(tmp_path)[FAILED] == 9


def test_port_that_is_taken_is_wrong_usage(tmp_path: Path) -> None:
    from socket import socket

    with socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="--metrics-port"):
            serve(tmp_path, "127.0.0.1", taken.getsockname()[1])
