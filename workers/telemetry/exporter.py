"""Serves what a worker's processes have counted, as one answer to Prometheus.

The pool's processes count into files of their own, in a folder of the worker's, and whoever is
asked adds them up (`prometheus_client`'s multiprocess mode).
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
    """Have this process and its children count into files in the folder, which is emptied.

    Raises:
        RuntimeError: it is too late, `prometheus_client` has been imported and counts in memory.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("share_counters comes before the import of prometheus_client")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def serve(folder: Path, host: str, port: int) -> None:
    """Answer Prometheus from a thread of this process.

    Raises:
        UsageError: the port cannot be had.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Counted(folder))
    try:
        server, _thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--metrics-port {port} on {host}: {error.strerror}") from error

    def close(**_signal: Any) -> None:
        # A pool process that outlives a killed worker must not keep the port from the next one.
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
        """Keep what a dead process has counted; a gauge of what it had in hand goes with it."""
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
    except PermissionError:  # somebody else's process has the number by now
        return False
    return True
