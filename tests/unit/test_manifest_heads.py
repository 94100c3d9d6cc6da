"""Objects of a manifest whose HEAD fails are staged as missing only if S3 says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydantic import SecretStr

from db.archives import RegisteredArchive
from db.planning import ListedPage
from workers.errors import ArchiveUnavailable
from workers.planning.manifests import manifest
from workers.s3.service import S3Services
from workers.settings import WorkerSettings

OBJECT = {"ETag": '"0123"', "Last-Modified": "Sat, 31 Oct 2026 01:02:03 GMT"}


@contextmanager
def service(head: int, get: int, code: str) -> Iterator[str]:
    """Yield the URL of an S3 service with these answers; `code` is that of GET's body."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(head, b"")

        def do_GET(self) -> None:
            error = f"<Error><Code>{code}</Code></Error>".encode() if code else b"<html>"
            self.answer(get, b"picture" if get == 200 else error)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in OBJECT.items() if status == 200 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def page_of(endpoint: str, folder: Path) -> ListedPage:
    path = folder / "manifest.csv"
    path.write_text("s3://photos/a.jpg\n")
    settings = WorkerSettings(
        s3_endpoint=endpoint, s3_access_key="key", s3_secret_key=SecretStr("secret"), s3_tries=1
    )
    archive = RegisteredArchive("photos", endpoint, "photos", allow_private=True, id=7)
    (page,) = manifest(S3Services(settings), [archive], path).pages(None)
    return page


@pytest.mark.parametrize(
    ("head", "get", "code", "reason"),
    [
        (403, 403, "AccessDenied", "403 AccessDenied"),  # missing keys too, without ListBucket
        (404, 403, "AccessDenied", "403 AccessDenied"),
        (404, 404, "NoSuchBucket", "NoSuchBucket"),
        (412, 412, "PreconditionFailed", "412"),
        (400, 400, "InvalidRequest", "400"),
        (301, 301, "PermanentRedirect", "301"),
    ],
)
def test_what_cannot_be_looked_at_is_not_staged_as_missing(
    tmp_path: Path, head: int, get: int, code: str, reason: str
) -> None:
    with service(head, get, code) as endpoint:
        page = page_of(endpoint, tmp_path)
    (obj,) = page.objects
    assert (obj.key, obj.etag) == ("a.jpg", "")
    ((about, why),) = page.unreadable.items()
    assert about == (7, "a.jpg")
    assert reason in why


@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchVersion"])
def test_missing_objects_are_staged_as_missing(tmp_path: Path, code: str) -> None:
    with service(404, 404, code) as endpoint:
        page = page_of(endpoint, tmp_path)
    assert [obj.etag for obj in page.objects] == [""]
    assert not page.unreadable


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "SlowDown"),
        (500, "InternalError"),
        (503, "SlowDown"),
        (404, ""),  # the answer of a proxy instead of S3
    ],
)
def test_a_service_that_is_unavailable_ends_the_planning(
    tmp_path: Path, status: int, code: str
) -> None:
    with service(status, status, code) as endpoint, pytest.raises(ArchiveUnavailable):
        page_of(endpoint, tmp_path)


@pytest.mark.parametrize("head", [403, 404, 405])
def test_an_object_that_only_get_may_read_is_listed_as_it_is(tmp_path: Path, head: int) -> None:
    with service(head, 200, "") as endpoint:
        page = page_of(endpoint, tmp_path)
    assert [(obj.etag, obj.size) for obj in page.objects] == [("0123", 7)]
    assert not page.unreadable
