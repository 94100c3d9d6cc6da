"""A TCP proxy whose connections share one slow link, for tests of time-outs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_SLICE = 2048  # bytes


class _Link:
    """A link that carries `rate` bytes a second in all, shared by its connections."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()

    def carry(self, size: int) -> None:
        """Wait until the link has carried so many bytes."""
        with self._lock:
            time.sleep(size / self._rate)


@contextmanager
def slow_link(upstream: str, rate: float) -> Iterator[str]:
    """Yield the URL of a proxy to an HTTP server; answers come at `rate` bytes a second in all.

    Requests pass unthrottled. The bytes are those of the server: the proxy does not read HTTP.
    """
    parts = urlsplit(upstream)
    target = (parts.hostname or "", parts.port or 80)
    link = _Link(rate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, target, link), daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(listener: socket.socket, target: tuple[str, int], link: _Link) -> None:
    with suppress(OSError):  # the listener is closed
        while True:
            client, _address = listener.accept()
            server = socket.create_connection(target)
            for source, sink, throttle in ((client, server, None), (server, client, link)):
                threading.Thread(target=_pump, args=(source, sink, throttle), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, link: _Link | None) -> None:
    with suppress(OSError):  # either side has closed the connection
        while data := source.recv(_SLICE):
            if link is not None:
                link.carry(len(data))
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
