"""The watcher of Triton's child processes, with small servers in place of Triton."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.local import triton_process
from deploy.local.folder import Folder
from deploy.local.triton_process import dead_children, memory_prefix, remove_leftovers, watch

# A server that prints a line when its child has died; with `wait` it has reaped the child.
SERVER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("one child", flush=True)
input()
child.kill()
if "wait" in sys.argv:
    child.wait()
input()
"""


@contextmanager
def server(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", SERVER, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    print("go on", file=process.stdin, flush=True)


def test_living_children_are_left_alone() -> None:
    with server() as process:
        assert dead_children(psutil.Process(process.pid)) == set()


def test_server_that_keeps_a_dead_child_is_killed() -> None:
    with server() as process:
        tell(process)
        watch(psutil.Process(process.pid))
        assert process.wait() == -9


def test_server_that_reaps_its_child_ends_by_itself() -> None:
    with server("wait") as process:
        tell(process)
        tell(process)
        watch(psutil.Process(process.pid))
        assert process.wait() == 0


@pytest.mark.parametrize("running", [True, False])
def test_temporary_folders_of_a_killed_server_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """Folders of other servers stay while any server runs; folders with files stay always."""
    folder = Folder(tmp_path / "stack")
    for name in (f"{memory_prefix(folder)}1", "geotag-other-1"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "python_env_empty").mkdir()
    (tmp_path / "python_env_full" / "bin").mkdir(parents=True)
    names = ["bash", "tritonserver"] if running else ["bash"]
    monkeypatch.setattr(triton_process, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(triton_process, "TEMPORARY", tmp_path)
    processes = [SimpleNamespace(info={"name": name}) for name in names]
    monkeypatch.setattr(psutil, "process_iter", lambda _attributes: iter(processes))
    remove_leftovers(folder)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"geotag-other-1", "python_env_full"} | (
        {"python_env_empty"} if running else set()
    )
