"""Serve the counters of all processes of one worker to Prometheus.

Each pool process counts into files of its own in the worker's folder; the parent process sums them
(`prometheus_client`'s multiprocess mode).
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.signals import worker_process_init

from workers.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client import Metric

_NOBODY = 0
"""Counters of processes that have died are kept as those of this process id."""


def share_counters(folder: Path) -> None:
    """Empty the folder, and have this process and its children count into files there.

    Raises:
        RuntimeError: `prometheus_client` is imported already, and counts in memory.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("share_counters comes before the import of prometheus_client")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(folder: Path, host: str, port: int) -> None:
    """Answer Prometheus from a thread of this process.

    Raises:
        UsageError: the port cannot be bound.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Counted(folder))
    try:
        server, _thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--metrics-port {port} on {host}: {error.strerror}") from error

    def close(**_signal: Any) -> None:
        # A pool process that outlives a killed parent must not keep the port.
        server.socket.close()

    worker_process_init.connect(close, weak=False)


class Counted:
    """The sum of the folder's files; files of processes that have died are folded into one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = threading.Lock()

    def collect(self) -> Iterable["Metric"]:
        """The metrics, as a registry asks for them."""
        from prometheus_client.multiprocess import MultiProcessCollector

        with self._one_at_a_time:
            for path in self._folder.glob("*_*.db"):
                kind, _, pid = path.stem.rpartition("_")
                if int(pid) != _NOBODY and not _lives(int(pid)):
                    self._fold(kind, path)
            return list(MultiProcessCollector(None, str(self._folder)).collect())  # type: ignore[no-untyped-call]

    def _fold(self, kind: str, path: Path) -> None:
        """Add a dead process's counters to the kept ones; drop its gauges."""
        from prometheus_client.mmap_dict import MmapedDict

        if not kind.startswith("gauge"):
            kept = MmapedDict(str(self._folder / f"{kind}_{_NOBODY}.db"))  # type: ignore[no-untyped-call]
            values = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
            for key, value, _timestamp, _position in values:
                before, _then = kept.read_value(key)  # type: ignore[no-untyped-call]
                kept.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
            kept.close()  # type: ignore[no-untyped-call]
        path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process has the id by now
        return False
    return True
