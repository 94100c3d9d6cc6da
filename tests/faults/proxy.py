"""An HTTP proxy for a real S3 server that answers badly on demand.

It forwards requests with the `Host` that the client signed, so the server can check signatures. A
`Trouble` says what happens to an answer; without one the proxy only forwards.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore it: a worker that is killed, or has timed out, closes its connection."""


class Trouble:
    """Interface of the troubles. This one changes nothing."""

    def before(self, proxy: "Proxy", method: str, path: str) -> int | None:
        """Called with each request; a status is answered in place of S3."""
        return None

    def cut(self, method: str, path: str) -> bool:
        """Whether the connection is to break in the middle of this answer's body."""
        return False


class Proxy:
    """A proxy at `url` to the S3 service at `upstream`; `troubled` counts altered answers."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.trouble = Trouble()
        self.troubled = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextmanager
    def making(self, trouble: Trouble) -> Iterator[None]:
        """Apply a trouble within the context."""
        self.trouble = trouble
        try:
            yield
        finally:
            self.trouble = Trouble()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            trouble = proxy.trouble
            status = trouble.before(proxy, self.command, unquote(self.path))
            if status is not None:
                proxy.troubled += 1
                self._answer(status, {}, b"")
                return
            upstream = http.client.HTTPConnection(proxy.upstream, timeout=30)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                said = upstream.getresponse()
                data = said.read()
            except OSError:
                self._answer(502, {}, b"")
                return
            finally:
                upstream.close()
            if data and trouble.cut(self.command, unquote(self.path)):
                proxy.troubled += 1
                self._answer(said.status, dict(said.getheaders()), data, stop_at=len(data) // 2)
            else:
                self._answer(said.status, dict(said.getheaders()), data)

        def _answer(
            self, status: int, headers: dict[str, str], data: bytes, stop_at: int | None = None
        ) -> None:
            kept = {
                name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP
            }
            if self.command != "HEAD":  # HEAD sends the length only
                kept = {n: v for n, v in kept.items() if n.lower() != "content-length"}
                kept["Content-Length"] = str(len(data))
            self.send_response_only(status)
            for name, value in kept.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[:stop_at])
            if stop_at is not None:
                self.wfile.flush()
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


class Failing(Trouble):
    """Some requests for an object are answered with this status, at random."""

    def __init__(self, status: int, chance: Callable[[], bool]) -> None:
        self._status = status
        self._chance = chance

    def before(self, proxy: Proxy, method: str, path: str) -> int | None:
        return self._status if method == "GET" and self._chance() else None


class Unavailable(Trouble):
    """Every request is answered with this status."""

    def __init__(self, status: int) -> None:
        self._status = status

    def before(self, proxy: Proxy, method: str, path: str) -> int | None:
        return self._status


class Slow(Trouble):
    """Some answers take a while, at random."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def before(self, proxy: Proxy, method: str, path: str) -> int | None:
        seconds = self._seconds()
        if seconds:
            proxy.troubled += 1
            time.sleep(seconds)
        return None


class Cutting(Trouble):
    """Some bodies end in the middle, at random."""

    def __init__(self, chance: Callable[[], bool]) -> None:
        self._chance = chance

    def cut(self, method: str, path: str) -> bool:
        return method == "GET" and self._chance()


class Changing(Trouble):
    """The objects with these paths get other bytes the moment before they are fetched."""

    def __init__(self, change: Callable[[str], None], paths: set[str]) -> None:
        self._change = change
        self._paths = paths
        self._lock = threading.Lock()

    def before(self, proxy: Proxy, method: str, path: str) -> int | None:
        key = path.partition("?")[0]
        with self._lock:
            chosen = method == "GET" and key in self._paths
            self._paths -= {key}
            if chosen:
                proxy.troubled += 1
                self._change(key)
        return None
