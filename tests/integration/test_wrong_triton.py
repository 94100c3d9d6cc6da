"""A worker whose GEOTAG_TRITON_URL is wrong hands its chunk back: no photograph is failed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from deploy.local.folder import Folder
from geotag.context import Context
from tests.images import good_files
from tests.integration.test_chunk import Worker, chunk_of, still_to_do
from tests.stack_helpers import until


@contextmanager
def another_grpc_server(_context: Context) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@contextmanager
def tritons_metrics_port(context: Context) -> Iterator[str]:
    """Yield the address of Triton's metrics port, which speaks HTTP."""
    env = Folder(context.settings.stack.data_dir).read_stack_env()
    yield env["GEOTAG_TRITON_METRICS_URL"].partition("://")[2].partition("/")[0]


@pytest.mark.parametrize("server", [another_grpc_server, tritons_metrics_port])
def test_wrong_address_of_triton_fails_no_photograph(
    running: Context, bucket: str, monkeypatch: pytest.MonkeyPatch, server: object
) -> None:
    worker = Worker(running, monkeypatch)
    picture = good_files()["plain.jpg"]
    chunk = chunk_of(running, bucket, {f"{i}.jpg": picture + f"{bucket}{i}".encode() for i in "01"})
    with server(running) as url:  # type: ignore[operator]
        worker.new_context(triton_url=url)
        worker.deliver(chunk)
    assert worker.sent == [(chunk.chunk_id, chunk.delivery)]
    assert until(lambda: still_to_do(running, chunk)) == [0, 0]
