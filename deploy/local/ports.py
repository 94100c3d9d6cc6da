"""Choose free loopback ports, and report which program occupies a port."""

import errno
import random
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

from deploy.errors import PortTaken, StackError

LOOPBACK = "127.0.0.1"
# Above the ports that well-known programs use, and below those that Linux hands to outgoing
# connections (ip_local_port_range: 32768 to 60999), which might get a stopped server's port.
RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Return whether a server can listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT do not count.
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
    """Return a free loopback port that is not in `taken`.

    Raises StackError if there is none.
    """
    for port in random.sample(RANGE, len(RANGE)):
        if port not in taken and is_free(port):
            return port
    raise StackError(
        f"no port between {RANGE.start} and {RANGE.stop - 1} is free",
        "stop the programs that listen on them (`ss -tlnp` lists them)",
    )


def require_free(service: str, ports: Iterable[int], ports_file: Path) -> None:
    """Raise PortTaken if another program listens on one of the service's ports."""
    for port in ports:
        if not is_free(port):
            raise PortTaken(service, port, owner_of(port), str(ports_file))


def owner_of(port: int) -> str:
    """Return the program that listens on a port, in words. Other users' programs may be hidden."""
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
    """Return name and process id, as far as we may see them."""
    if pid is None:
        return "a program of another user"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
