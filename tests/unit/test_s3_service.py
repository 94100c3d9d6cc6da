"""S3Service with moto's S3 server (HTTP on loopback), and with a misbehaving server."""

import hashlib
import itertools
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import boto3
import pytest

from db.archives import ArchiveRecord
from tests.unit.test_archive_objects import ODD_KEYS
from workers.errors import (
    ArchiveUnavailable,
    BucketUnknown,
    CredentialRefused,
    EmptyFile,
    EndpointRefused,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    Redirected,
    TooManyBytes,
    TransientError,
    UsageError,
)
from workers.s3.clients import S3Access
from workers.s3.errors import s3_error, tried
from workers.s3.service import ArchiveObject, S3Service, S3Services
from workers.settings import WorkerSettings

MEGABYTE = 2**20
# Pairs of keys that clients confuse if they treat keys as paths.
PLAIN, LEADING = "photo.jpg", "/photo.jpg"


def archive_at(endpoint, *, waits=None, **settings):
    """Return an S3 service that records its waits instead of waiting."""
    values = {"s3_access_key": "key", "s3_secret_key": "secret", "s3_timeout": 5, **settings}
    waits = [] if waits is None else waits
    return S3Service(WorkerSettings(s3_endpoint=endpoint, **values), sleep=waits.append)


@pytest.fixture
def archive(endpoint):
    return archive_at(endpoint)


def listed(archive, bucket, prefix=""):
    return [obj for page in archive.list_objects(bucket, prefix) for obj in page.objects]


def test_every_key_survives_upload_listing_and_fetch(archive, bucket):
    for key in ODD_KEYS:
        archive.upload(bucket, key, key.encode())
    found = listed(archive, bucket)
    assert {obj.key for obj in found} == set(ODD_KEYS)
    for obj in found:
        fetched = archive.fetch(obj, MEGABYTE)
        assert fetched.data == obj.key.encode()
        assert fetched.sha256 == hashlib.sha256(fetched.data).digest()
        assert fetched.etag == obj.etag
        assert archive.head(bucket, obj.key).etag == obj.etag
        assert '"' not in obj.etag


def test_a_leading_slash_is_another_object(archive, bucket):
    for key in (PLAIN, LEADING):
        archive.upload(bucket, key, key.encode())
    assert {archive.fetch(obj, MEGABYTE).data for obj in listed(archive, bucket)} == {
        PLAIN.encode(),
        LEADING.encode(),
    }


def test_listing_goes_on_from_a_token(archive, bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    keys = {f"a/{number}" for number in range(7)}
    for key in {*keys, "b"}:
        archive.upload(bucket, key, b"1")
    pages = list(archive.list_objects(bucket, "a/"))
    assert [len(page.objects) for page in pages] == [3, 3, 1]
    assert {obj.key for page in pages for obj in page.objects} == keys
    rest = list(archive.list_objects(bucket, "a/", start=pages[0].next_token))
    assert rest == pages[1:]
    assert pages[-1].next_token is None


def test_an_empty_bucket_has_one_empty_page(archive, bucket):
    assert [page.objects for page in archive.list_objects(bucket)] == [()]


def test_uploading_a_file(archive, bucket, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"of a file")
    assert archive.fetch(archive.upload(bucket, "k", path), MEGABYTE).data == b"of a file"


def test_ensuring_a_bucket_twice(archive, bucket):
    archive.upload(bucket, "k", b"kept")
    archive.ensure_bucket(bucket)
    assert len(listed(archive, bucket)) == 1


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_an_object_that_vanished(archive, bucket, key):
    missing = ArchiveObject(bucket, key, "0" * 32, 1, None)
    with pytest.raises(ObjectMissing):
        archive.fetch(missing, MEGABYTE)
    with pytest.raises(ObjectMissing):
        archive.head(bucket, key)


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_an_object_that_changed(archive, bucket, key):
    old = archive.upload(bucket, key, b"old")
    archive.upload(bucket, key, b"new")
    with pytest.raises(ObjectChanged):
        archive.fetch(old, MEGABYTE)


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_a_version_can_be_fetched_after_it_changed(archive, bucket, key, endpoint):
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = archive.upload(bucket, key, b"old")
    new = archive.upload(bucket, key, b"new")
    assert old.version_id != new.version_id
    fetched = archive.fetch(old, MEGABYTE)
    assert (fetched.data, fetched.version_id) == (b"old", old.version_id)


def test_an_unknown_bucket(archive):
    with pytest.raises(BucketUnknown):
        listed(archive, "no-such-bucket")
    for key in (PLAIN, LEADING):
        with pytest.raises(BucketUnknown):
            archive.fetch(ArchiveObject("no-such-bucket", key, "e", 1, None), MEGABYTE)
        with pytest.raises(BucketUnknown):
            archive.head("no-such-bucket", key)


def test_a_bucket_name_that_cannot_be(archive):
    with pytest.raises(UsageError):
        listed(archive, "no bucket")


def test_sizes_are_checked_before_a_request():
    archive = archive_at("http://127.0.0.1:1")  # nothing listens there
    with pytest.raises(EmptyFile):
        archive.fetch(ArchiveObject("b", "k", "e", 0, None), MEGABYTE)
    with pytest.raises(TooManyBytes):
        archive.fetch(ArchiveObject("b", "k", "e", MEGABYTE + 1, None), MEGABYTE)


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_a_size_is_checked_again_when_it_arrives(archive, bucket, key):
    obj = archive.upload(bucket, key, b"12345")
    assert archive.fetch(obj, 5).data == b"12345"
    understated = ArchiveObject(bucket, key, obj.etag, 1, None)
    with pytest.raises(TooManyBytes):
        archive.fetch(understated, 4)


def test_threads_share_an_archive(endpoint, bucket):
    archive = archive_at(endpoint)
    keys = [f"{number}.jpg" for number in range(20)] + [f"/{number}.jpg" for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        objects = list(threads.map(lambda key: archive.upload(bucket, key, key.encode()), keys))
        fetched = list(threads.map(lambda obj: archive.fetch(obj, MEGABYTE).data, objects))
    assert fetched == [key.encode() for key in keys]


def test_no_credential_is_a_usage_error(monkeypatch, endpoint, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    archive = archive_at(endpoint, s3_access_key=None, s3_secret_key=None)
    with pytest.raises(UsageError):
        archive.fetch(ArchiveObject("bucket", PLAIN, "e", 1, None), MEGABYTE)
    with pytest.raises(UsageError):
        listed(archive, "bucket")


class Misbehaving:
    """A loopback server that gives the answers in order, and repeats the last one."""

    def __init__(self, *answers):
        self.requests = 0
        script = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):  # self is the server around it
                self.requests += 1
                self.path = handler.path
                self.headers = handler.headers
                answer = script.pop(0) if len(script) > 1 else script[0]
                answer(handler)
                handler.close_connection = True

            do_HEAD = do_PUT = do_GET

            def log_message(handler, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def answer(status, code="", body=b"the body", length=None, etag='"e"'):
    """Return an HTTP answer; with an S3 error code its body is S3's XML."""
    content = f"<Error><Code>{code}</Code></Error>".encode() if code else body

    def send(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.send_header("ETag", etag)
        handler.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    return send


def dropped(handler):
    """Close the connection without an answer."""


def silent(handler):
    """Send the correct answer after the client's time-out."""
    time.sleep(1)
    OK(handler)


def trickling(handler):
    """Send the correct answer byte by byte, each within the time-out of a read."""
    handler.send_response(200)
    handler.send_header("Content-Length", "20")
    handler.send_header("ETag", '"e"')
    handler.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
    handler.end_headers()
    for _ in range(20):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


OK = answer(200)
TRANSIENT = {
    "500": answer(500, "InternalError"),
    "502 without a body": answer(502, body=b""),
    "503": answer(503, "SlowDown"),
    "429": answer(429, "TooManyRequests"),
    "a cut body": answer(200, length=1000),
    "a dropped connection": dropped,
}


@pytest.mark.parametrize("key", [PLAIN, LEADING])
@pytest.mark.parametrize("fault", TRANSIENT)
def test_transient_errors_are_retried(fault, key):
    waits = []
    with Misbehaving(TRANSIENT[fault], TRANSIENT[fault], OK) as server:
        archive = archive_at(server.endpoint, waits=waits)
        obj = ArchiveObject("bucket", key, "e", 8, None)
        assert archive.fetch(obj, MEGABYTE).data == b"the body"
    assert server.requests == 3
    assert len(waits) == 2


@pytest.mark.parametrize("key", [PLAIN, LEADING])
@pytest.mark.parametrize("fault", TRANSIENT)
def test_retries_are_bounded(fault, key):
    with Misbehaving(TRANSIENT[fault]) as server:
        archive = archive_at(server.endpoint, s3_tries=3)
        with pytest.raises(ArchiveUnavailable):
            archive.fetch(ArchiveObject("bucket", key, "e", 8, None), MEGABYTE)
    assert server.requests == 3


@pytest.mark.parametrize(("fault", "key"), [(silent, PLAIN), (trickling, PLAIN)])
def test_a_slow_answer_times_out(fault, key):
    with Misbehaving(fault, OK) as server:
        archive = archive_at(server.endpoint, s3_timeout=0.3, s3_least_rate=1000)
        obj = ArchiveObject("bucket", key, "e", 8, None)
        assert archive.fetch(obj, MEGABYTE).data == b"the body"
    assert server.requests >= 2  # more if the correct answer is late, too


@pytest.mark.parametrize("key", [PLAIN, LEADING])
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", ObjectForbidden),
        (403, "InvalidAccessKeyId", CredentialRefused),
        (403, "SignatureDoesNotMatch", CredentialRefused),
        (400, "ExpiredToken", CredentialRefused),
        (401, "Unauthorized", ObjectForbidden),
        (404, "NoSuchKey", ObjectMissing),
        (404, "NoSuchBucket", BucketUnknown),
        (405, "MethodNotAllowed", ObjectMissing),
        (412, "PreconditionFailed", ObjectChanged),
        (400, "AuthorizationHeaderMalformed", UsageError),
    ],
)
def test_permanent_errors_are_not_retried(status, code, error, key):
    with Misbehaving(answer(status, code)) as server:
        archive = archive_at(server.endpoint)
        with pytest.raises(error) as raised:
            archive.fetch(ArchiveObject("bucket", key, "e", 8, None), MEGABYTE)
    assert server.requests == 1
    refused = code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
    assert ("credential" in raised.value.message) == refused
    assert "secret" not in raised.value.message.replace("the secret key", "")


def test_a_failed_head_has_a_reason_although_it_has_no_body():
    with Misbehaving(answer(403, "InvalidAccessKeyId")) as server:
        archive = archive_at(server.endpoint)
        with pytest.raises(CredentialRefused, match="credential"):
            archive.head("bucket", PLAIN)
    assert server.requests == 2


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_a_service_that_ignores_if_match_is_noticed(key):
    obj = ArchiveObject("bucket", key, "e", 8, None)
    with Misbehaving(answer(200, etag='"new"')) as server, pytest.raises(ObjectChanged):
        archive_at(server.endpoint).fetch(obj, MEGABYTE)


@pytest.mark.parametrize("key", ["new\nline.jpg", "a/../b.jpg", "a//b.jpg", "100%+ ü?#.jpg"])
def test_keys_arrive_unchanged(key):
    with Misbehaving(OK) as server:
        archive_at(server.endpoint).fetch(ArchiveObject("bucket", key, "e", 8, None), MEGABYTE)
    assert unquote(server.path.partition("?")[0]) == f"/bucket/{key}"


@pytest.mark.parametrize("key", [PLAIN, LEADING])
def test_every_fetch_is_conditional(key):
    with Misbehaving(OK) as server:
        archive_at(server.endpoint).fetch(ArchiveObject("bucket", key, "e", 8, None), MEGABYTE)
    assert server.headers["If-Match"] == '"e"'


def page(keys, token):
    items = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
        for key in keys
    )
    next_page = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "false" if token is None else "true"
    body = (
        f"<ListBucketResult><EncodingType>url</EncodingType>{items}"
        f"<IsTruncated>{truncated}</IsTruncated>{next_page}</ListBucketResult>"
    )
    return answer(200, body=body.encode())


def test_an_unsorted_listing_loses_nothing():
    script = [page(["z", "b"], "1"), answer(503, "SlowDown"), page(["a", "y%20z"], None)]
    with Misbehaving(*script) as server:
        archive = archive_at(server.endpoint)
        assert [obj.key for obj in listed(archive, "bucket")] == ["z", "b", "a", "y z"]
        assert "continuation-token=1" in server.path
        assert "start-after" not in server.path


@pytest.mark.parametrize("script", [[page(["a"], "")], [page(["a"], "1"), page(["b"], "1")]])
def test_a_listing_that_cannot_continue_is_an_error(script):
    with Misbehaving(*script) as server, pytest.raises(ArchiveUnavailable):
        listed(archive_at(server.endpoint), "bucket")


def sent_to(location, status=302, region=None):
    """Return an answer that redirects the client."""

    def send(handler):
        handler.send_response(status)
        if location:
            handler.send_header("Location", location)
        if region:
            handler.send_header("x-amz-bucket-region", region)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return send


ASKED = {
    "fetch": lambda archive: archive.fetch(ArchiveObject("bucket", PLAIN, "e", 8, None), MEGABYTE),
    "list": lambda archive: listed(archive, "bucket"),
    "head": lambda archive: archive.head("bucket", PLAIN),
    "upload": lambda archive: archive.upload("bucket", PLAIN, b"x"),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(asked, status):
    with Misbehaving(OK) as elsewhere:
        location = elsewhere.endpoint.replace("127.0.0.1", "localhost") + "/secret"
        with Misbehaving(sent_to(location, status)) as server:
            # boto3's own client fails on a 303, which S3 never sends.
            expected = Redirected if status != 303 or asked == "fetch" else ArchiveUnavailable
            with pytest.raises(expected):
                ASKED[asked](archive_at(server.endpoint, s3_tries=1))
            assert server.requests == 1
        assert elsewhere.requests == 0


@pytest.mark.parametrize("asked", ASKED)
def test_the_error_names_the_region_of_the_bucket(asked):
    with Misbehaving(sent_to(None, 301, "eu-south-2")) as server:
        with pytest.raises(Redirected, match="--region eu-south-2"):
            ASKED[asked](archive_at(server.endpoint))
        assert server.requests == 1


@pytest.mark.parametrize("asked", ASKED)
def test_a_private_address_of_a_public_endpoint_is_not_contacted(asked, monkeypatch):
    """Its name had another address when the archive was registered."""
    monkeypatch.setenv("ALPS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("ALPS_SECRET_ACCESS_KEY", "secret")
    with Misbehaving(OK) as server:
        for endpoint in (server.endpoint, server.endpoint.replace("http://", "https://")):
            service = S3Access(endpoint, "us-east-1", "env:ALPS", allow_private=False)
            with pytest.raises(EndpointRefused):
                ASKED[asked](S3Service(WorkerSettings(s3_tries=1), service))
        assert server.requests == 0


def test_the_settings_credential_goes_to_the_settings_endpoint_only():
    with Misbehaving(OK) as server:
        settings = WorkerSettings(
            s3_endpoint="http://127.0.0.1:1", s3_access_key="k", s3_secret_key="s"
        )
        service = S3Access(server.endpoint, "us-east-1", "settings", allow_private=True)
        for ask in ASKED.values():
            with pytest.raises(UsageError, match="GEOTAG_S3_ENDPOINT"):
                ask(S3Service(settings, service))
        assert server.requests == 0


def test_archives_share_the_clients_of_a_service():
    archives = S3Services(WorkerSettings(s3_endpoint="http://127.0.0.1:1"))
    first = ArchiveRecord("a", "http://127.0.0.1:1", "a")
    assert archives.of(first) is archives.of(replace(first, name="b", bucket="b"))
    assert archives.of(first) is not archives.of(replace(first, credentials="env:X"))
    assert archives.of(first) is not archives.of(replace(first, endpoint=""))


def test_downloading_to_a_file(archive, bucket):
    archive.upload(bucket, "k", b"0123456789")
    with tempfile.TemporaryFile() as file:
        file.write(b"what a try before has left there")
        archive.download(bucket, "k", file, 10)
        file.seek(0)
        assert file.read() == b"0123456789"
        with pytest.raises(TooManyBytes):
            archive.download(bucket, "k", file, 9)


def test_reachable():
    buckets = answer(200, body=b"<ListAllMyBucketsResult/>")
    for response in (buckets, answer(403, "AccessDenied"), answer(404, "NoSuchBucket")):
        with Misbehaving(response) as server:
            assert archive_at(server.endpoint).reachable()
    with Misbehaving(answer(503, "SlowDown")) as server:
        assert not archive_at(server.endpoint).reachable()
        assert server.requests == 1
    assert not archive_at(server.endpoint).reachable()


@pytest.mark.parametrize("nothing_there", [answer(404), answer(501, "NotImplemented")])
def test_service_that_knows_one_bucket_only_is_reachable(nothing_there):
    """One object that it cannot give must not look like an outage, which is waited for."""
    listing = answer(200, body=b"<ListBucketResult><IsTruncated>false</IsTruncated>"
                               b"</ListBucketResult>")  # fmt: skip

    def gateway(handler):
        path, _, query = handler.path.partition("?")
        if path.rstrip("/") == "/b" and "list-type=2" in query:
            return listing(handler)
        return (answer(500) if path == "/b/k" else nothing_there)(handler)

    with Misbehaving(gateway) as server:
        archive = archive_at(server.endpoint)
        with pytest.raises(ArchiveUnavailable):
            archive.fetch(ArchiveObject("b", "k", "e", 8), 9)
        assert archive.reachable()
    with Misbehaving(answer(404)) as server:
        archive = archive_at(server.endpoint)
        with pytest.raises(ArchiveUnavailable):
            archive.fetch(ArchiveObject("b", "k", "e", 8), 9)
        assert not archive.reachable()


def test_waits_grow_and_vary_within_a_bound():
    def fail():
        raise ArchiveUnavailable("away")

    longest, seen = [0.0] * 9, set()
    for _ in range(200):
        waits = []
        with pytest.raises(TransientError):
            tried(fail, 10, waits.append)
        assert len(waits) == 9
        longest = [max(pair) for pair in zip(longest, waits, strict=True)]
        seen.update(waits)
    assert longest[0] < longest[2] < longest[4] <= 10
    assert max(longest) <= 10
    assert len(seen) > 1000


def test_every_status_has_an_error():
    for status, code in itertools.product([None, *range(300, 600)], ["", "Whatever"]):
        error = s3_error(status, code, "s3://b/k")
        # 404 with neither code of S3's: whatever answers so is not S3.
        transient = status is None or status >= 500 or status in (404, 408, 429)
        assert isinstance(error, TransientError) == transient, status
        assert error.message.startswith("s3://b/k: ")
