"""The process of the local Triton, and the watch over the processes of its models.

Triton's Python backend runs each model in a child process. When one dies (of memory, say), Triton
neither starts it again nor reaps it, and goes on calling the model ready while every inference
fails. A server that keeps a dead child is therefore killed, and the supervisor starts it anew.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from deploy.local.folder import Folder

SHARED_MEMORY = Path("/dev/shm")
# The Python backend makes a folder python_env_XXXXXX there, whatever TMPDIR says.
TEMPORARY = Path("/tmp")
LOOK_SECONDS = 1.0


def command(folder: Folder, *server: str) -> tuple[str, ...]:
    """The command line that runs the command line `server` under watch, for the supervisor."""
    return (sys.executable, "-m", __name__, str(folder.root), *server)


def memory_prefix(folder: Folder) -> str:
    """How the shared memory of this stack's Triton is named in /dev/shm."""
    return f"geotag-{folder.key}-"


def remove_leftovers(folder: Folder) -> None:
    """Free what a killed server of this stack left behind; only when it is not running.

    Its temporary folder does not tell whose it is: they go when no Triton at all is running.
    """
    for region in SHARED_MEMORY.glob(f"{memory_prefix(folder)}*"):
        region.unlink(missing_ok=True)
    if not any(process.info["name"] == "tritonserver" for process in psutil.process_iter(["name"])):
        for left in TEMPORARY.glob("python_env_*"):
            with contextlib.suppress(OSError):  # not empty, or not ours
                left.rmdir()


def dead_children(server: psutil.Process) -> set[psutil.Process]:
    """Children that have died and that the server has not reaped; NoSuchProcess without server.

    A model that is unloaded leaves one for a moment.
    """
    return {child for child in server.children() if _is_dead(child)}


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def watch(server: psutil.Process) -> None:
    """Kill the server once a child of its stays dead; return when the server is gone.

    Killed, not stopped: an orderly stop would wait for the dead child until its deadline.
    """
    before: set[psutil.Process] = set()
    try:
        while server.status() != psutil.STATUS_ZOMBIE:
            dead = dead_children(server)
            if dead & before:
                print("a model's process has died: Triton starts again", flush=True)
                server.kill()
            before = dead
            time.sleep(LOOK_SECONDS)
    except psutil.NoSuchProcess:
        return


def main(root: str, *server: str) -> None:
    """Become the server, with a child that watches.

    This way round, so that the supervisor's signals and exit codes are the server's own.
    """
    remove_leftovers(Folder(Path(root)))
    process = psutil.Process()
    if os.fork():
        os.execv(server[0], server)
    watch(process)


if __name__ == "__main__":
    main(*sys.argv[1:])
