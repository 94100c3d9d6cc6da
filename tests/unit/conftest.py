"""Run moto's S3 server in this process. Unlike the local stack's, it keeps every key unchanged."""

import logging
import uuid
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from workers.s3.service import S3Service
from workers.settings import WorkerSettings


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def archive(endpoint: str) -> S3Service:
    settings = WorkerSettings(
        s3_endpoint=endpoint, s3_access_key="key", s3_secret_key="secret", s3_tries=1
    )
    return S3Service(settings)


@pytest.fixture
def bucket(archive: S3Service) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    archive.ensure_bucket(name)
    return name
