"""Run the local Triton, and restart it when the process of a model has died.

Triton's Python backend runs each model in a child process. If one dies (out of memory, say), Triton
neither restarts nor reaps it: it reports the model as ready, and every inference fails. So the
watcher kills a server with a dead child, and the supervisor restarts the server.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from deploy.local.folder import Folder

SHARED_MEMORY = Path("/dev/shm")
# The Python backend makes a folder python_env_XXXXXX here, whatever TMPDIR is.
TEMPORARY = Path("/tmp")
LOOK_SECONDS = 1.0


def command(folder: Folder, *server: str) -> tuple[str, ...]:
    """Return the command line that runs `server`, a command line, with the watcher."""
    return (sys.executable, "-m", __name__, str(folder.root), *server)


def memory_prefix(folder: Folder) -> str:
    """Return the prefix of this stack's shared memory in /dev/shm."""
    return f"geotag-{folder.key}-"


def remove_leftovers(folder: Folder) -> None:
    """Free what a killed server of this stack left behind. Call it only if none is running.

    The temporary folders do not name their server: they are deleted only if no Triton runs at all.
    """
    for region in SHARED_MEMORY.glob(f"{memory_prefix(folder)}*"):
        region.unlink(missing_ok=True)
    if not any(process.info["name"] == "tritonserver" for process in psutil.process_iter(["name"])):
        for left in TEMPORARY.glob("python_env_*"):
            with contextlib.suppress(OSError):  # not empty, or another user's
                left.rmdir()


def dead_children(server: psutil.Process) -> set[psutil.Process]:
    """Return the server's dead children that it has not reaped. Raises NoSuchProcess.

    After a model is unloaded, there is one for a moment.
    """
    return {child for child in server.children() if _is_dead(child)}


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def watch(server: psutil.Process) -> None:
    """Kill the server once a child of it stays dead. Return when the server is gone.

    It is killed, since a graceful stop would wait for the dead child until its deadline.
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
    """Execute the server in this process, and the watcher in a child.

    So the supervisor's signals reach the server, and the exit code is the server's.
    """
    remove_leftovers(Folder(Path(root)))
    process = psutil.Process()
    if os.fork():
        os.execv(server[0], server)
    watch(process)


if __name__ == "__main__":
    main(*sys.argv[1:])
