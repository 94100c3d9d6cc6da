"""The watch over Triton's children, with small servers in its place."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from deploy.local.triton_process import dead_children, watch

# A server whose child has died when it says so: with `wait` it has reaped it.
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
