"""Find and stop the processes of a stack whose supervisor is dead.

A killed supervisor leaves its servers running, with their ports and files. They are stopped before
the next supervisor starts, since it can only supervise children of its own. They are found by an
environment variable, which a server's children inherit.
"""

import contextlib
import os
from pathlib import Path

import psutil

MARK = "GEOTAG_STACK"


def stop_strays(root: Path) -> None:
    """Terminate the processes of the stack in `root`. Kill those that remain."""
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
    """Return the processes of the stack in `root`, without this one and its parents."""
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
