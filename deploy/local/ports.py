"""Loopback ports: choosing free ones, and saying who holds one of ours."""

import errno
import random
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from deploy.errors import PortTaken, StackError

LOOPBACK = "127.0.0.1"
# Above the ports that well-known programs use, and below those that Linux hands to outgoing
# connections (ip_local_port_range: 32768 to 60999): a stopped server's port is not lent out.
RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Can a server listen on this loopback port now?"""
    with socket.socket() as probe:
        # As servers do it: connections that are still dying on the port do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def choose(taken: set[int]) -> int:
    """A free loopback port that is not in `taken`.

    Raises StackError when there is none.
    """
    for port in random.sample(RANGE, len(RANGE)):
        if port not in taken and is_free(port):
            return port
    raise StackError(
        f"no port between {RANGE.start} and {RANGE.stop - 1} is free",
        "stop the programs that listen on them (`ss -tlnp` lists them)",
    )


def require_free(service: str, ports: Iterable[int], ports_file: Path) -> None:
    """Raise PortTaken when another program listens on one of the service's ports."""
    for port in ports:
        if not is_free(port):
            raise PortTaken(service, port, owner_of(port), str(ports_file))


def owner_of(port: int) -> str:
    """Who listens on this port, in words; another user's program may be hidden from us."""
    try:
        listening = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        listening = []
    for connection in listening:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            return describe(connection.pid)
    return "another program"


def describe(pid: int | None) -> str:
    """Name and process id, or what can be said without the right to look."""
    if pid is None:
        return "a program of another user"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
