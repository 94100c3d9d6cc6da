"""Fetches over slow links, and from silent and drip-feeding servers.

The settings scale the numbers down. No test measures time: each asserts an outcome.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.throttle import slow_link
from workers.errors import ArchiveUnavailable
from workers.s3.service import ArchiveObject, S3Service
from workers.settings import WorkerSettings

KIB = 2**10
SIZE = 128 * KIB
OBJECT = ArchiveObject("bucket", "photo.jpg", "e", SIZE, None)


def service_at(endpoint: str, **settings: Any) -> S3Service:
    values = {"s3_access_key": "key", "s3_secret_key": "secret", "s3_tries": 1, **settings}
    return S3Service(WorkerSettings(s3_endpoint=endpoint, **values))


def test_large_objects_arrive_over_a_slow_shared_link(archive: S3Service, bucket: str) -> None:
    """Each body takes several times as long as the allowed silence."""
    bodies = [bytes([i]) * SIZE for i in range(4)]
    objects = [archive.upload(bucket, f"{i}.jpg", body) for i, body in enumerate(bodies)]
    with slow_link(archive._settings.s3_endpoint or "", rate=SIZE) as link:
        slow = service_at(link, s3_timeout=1.5, s3_least_rate=KIB)
        with ThreadPoolExecutor(4) as threads:
            fetched = list(threads.map(lambda obj: slow.fetch(obj, SIZE), objects))
    assert [one.data for one in fetched] == bodies


def test_inventory_arrives_over_a_slow_link(archive: S3Service, bucket: str) -> None:
    archive.upload(bucket, "inventory", b"i" * SIZE)
    with (
        slow_link(archive._settings.s3_endpoint or "", rate=SIZE / 4) as link,
        tempfile.TemporaryFile() as file,
    ):
        service_at(link, s3_timeout=1.5, s3_least_rate=KIB).download(
            bucket, "inventory", file, SIZE
        )
        file.seek(0)
        assert file.read() == b"i" * SIZE


@contextmanager
def answering(body: Callable[[BaseHTTPRequestHandler, threading.Event], None]) -> Iterator[str]:
    """Yield the URL of a server whose answers are written by `body`, until the event is set."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body(self, over)
            self.close_connection = True

        def log_message(self, *_arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_arguments: object) -> None:
            """Ignore the error: the client closes the connection, as expected."""

    with Server(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            over.set()
            server.shutdown()


def head(handler: BaseHTTPRequestHandler, status: int) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(SIZE))
    handler.send_header("ETag", '"e"')
    handler.end_headers()


def drip(status: int) -> Callable[[BaseHTTPRequestHandler, threading.Event], None]:
    """Send byte by byte, each well within the allowed silence, for 10 s at most."""

    def body(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
        head(handler, status)
        for _ in range(200):
            handler.wfile.write(b"x")
            if over.wait(0.05):
                return
        handler.wfile.write(b"x" * (SIZE - 200))

    return body


def quick_then_silent(handler: BaseHTTPRequestHandler, over: threading.Event) -> None:
    head(handler, 200)
    handler.wfile.write(b"x" * (SIZE - 1))
    over.wait(10)
    handler.wfile.write(b"x")


def fetched(service: S3Service) -> object:
    return service.fetch(OBJECT, SIZE)


def downloaded(service: S3Service) -> object:
    with tempfile.TemporaryFile() as file:
        service.download("bucket", "inventory", file, SIZE)
    return "downloaded"


READS = pytest.mark.parametrize("read", [fetched, downloaded])


@READS
@pytest.mark.parametrize("status", [200, 403])
def test_drip_feeding_server_is_ended_by_the_least_rate(
    read: Callable[[S3Service], object], status: int
) -> None:
    """The rate also bounds the body of an error, which could otherwise block a thread for ever."""
    with answering(drip(status)) as url, pytest.raises(ArchiveUnavailable, match="bytes"):
        read(service_at(url, s3_timeout=1.0, s3_least_rate=64 * KIB))


@READS
def test_silence_in_the_middle_of_a_body_is_ended(read: Callable[[S3Service], object]) -> None:
    with answering(quick_then_silent) as url, pytest.raises(ArchiveUnavailable):
        read(service_at(url, s3_timeout=1.0, s3_least_rate=1))


def test_many_tries_do_not_overflow_the_back_off() -> None:
    waits: list[float] = []
    settings = WorkerSettings(
        s3_endpoint="http://127.0.0.1:1", s3_access_key="k", s3_secret_key="s", s3_tries=1100
    )
    with pytest.raises(ArchiveUnavailable):
        S3Service(settings, sleep=waits.append).fetch(OBJECT, SIZE)
    assert len(waits) == 1099
    assert max(waits) <= 10
