"""Processes that outlived their supervisor: found by a mark that all of a stack's processes carry.

A supervisor that was killed leaves its servers running, on their ports and over their files. They
are stopped before the next one starts, since only its own children can be watched over. The mark
is an environment variable, which a server's children inherit.
"""

import contextlib
import os
from pathlib import Path

import psutil

MARK = "GEOTAG_STACK"


def stop_strays(root: Path) -> None:
    """End every process that carries the mark of the data folder `root`; gently, then by force."""
    strays = find_strays(root)
    for process in strays:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(strays, timeout=15)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def find_strays(root: Path) -> list[psutil.Process]:
    """The marked processes, without ourselves and those that we were started by."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in ours and _mark(process) == str(root)
    ]


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # gone, another user's, or a kernel thread
        return None
