"""One S3 service: list, fetch and upload objects.

Every fetch is conditional on the listed ETag: it returns the planned bytes or raises ObjectChanged.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from db.archives import ArchiveRecord
from db.objects import ArchiveObject
from workers.errors import (
    ArchiveUnavailable,
    BucketUnknown,
    EmptyFile,
    ObjectChanged,
    ObjectMissing,
    PermanentError,
    TooManyBytes,
    UsageError,
)
from workers.s3.clients import S3Access, S3Clients, access_of
from workers.s3.errors import answer_error, s3_errors, tried
from workers.s3.objects import Skip, parse_s3_url, s3_url, triage
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2RequestTypeDef,
    )
    from urllib3 import BaseHTTPResponse

__all__ = [
    "ArchiveObject",
    "Fetched",
    "Page",
    "S3Service",
    "S3Services",
    "Skip",
    "parse_s3_url",
    "s3_url",
    "triage",
]

_BLOCK = 2**18  # bytes
_MOST_OF_AN_ERROR = 2**16  # bytes

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """Objects in the service's order, which need not be sorted, and the token of the next page.

    The token is None on the last page.
    """

    objects: tuple[ArchiveObject, ...]
    next_token: str | None


@dataclass(frozen=True)
class Fetched:
    """The bytes of one object and what identifies them: SHA-256 (32 bytes), ETag, version."""

    data: bytes
    sha256: bytes
    etag: str
    version_id: str | None


class S3Service:
    """One S3 service, with bounded retries of transient errors; safe to share between threads.

    Make no request before a fork: see workers/s3/clients.py.

    Every method raises ArchiveUnavailable after `s3_tries` failed tries, BucketUnknown,
    ObjectForbidden, CredentialRefused, Redirected, EndpointRefused, and UsageError if there is no
    credential or the bucket's name is invalid.

    Args:
        settings: limits and time-outs.
        service: its endpoint, region and credential; None for those of the settings.
        sleep: waits between tries.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        service: S3Access | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._clients = S3Clients(service or access_of(settings), settings)
        self._last_bucket: str | None = None

    def list_objects(
        self, bucket: str, prefix: str = "", *, start: str | None = None
    ) -> Iterator[Page]:
        """Yield the pages of the objects whose keys begin with `prefix`.

        `start` is the `next_token` of an earlier page. Paging goes by tokens alone: to continue
        after a key would lose objects on a service that does not list in key order.
        """
        token = start
        while True:
            page = self._retried(partial(self._page, bucket, prefix, token))
            yield page
            if page.next_token is None:
                return
            if page.next_token == token:
                raise ArchiveUnavailable(f"s3://{bucket}: the listing does not advance")
            token = page.next_token

    def head(self, bucket: str, key: str) -> ArchiveObject:
        """Return one object as it is now. Raises ObjectMissing too."""
        return self._retried(lambda: self._head(bucket, key))

    def fetch(self, obj: ArchiveObject, max_bytes: int) -> Fetched:
        """Return the bytes of the object, of exactly the listed version and ETag.

        Raises EmptyFile, TooManyBytes (by the listed size without a download), ObjectMissing and
        ObjectChanged too. The size that the answer declares is checked again before its
        body is read. A body of another length is transient, as is one that pauses for longer than
        `s3_timeout` or comes more slowly than `s3_least_rate`; so a fetch ends within
        `s3_timeout + size / s3_least_rate` seconds a try.
        """
        if obj.size == 0:
            raise EmptyFile("the object has no bytes")
        _check_size(obj.size, max_bytes)
        self._last_bucket = obj.bucket
        fetched = self._retried(lambda: self._get(obj, max_bytes))
        if obj.etag and fetched.etag != obj.etag:  # a service that ignores If-Match
            raise ObjectChanged(f"{s3_url(obj.bucket, obj.key)}: its ETag is no longer the listed")
        return fetched

    def download(self, bucket: str, key: str, out: IO[bytes], size: int) -> None:
        """Write an object to a seekable file, block by block; time-outs are those of `fetch`.

        Raises TooManyBytes if it has more than `size` bytes.
        """
        self._retried(lambda: self._download(bucket, key, out, size))

    def upload(self, bucket: str, key: str, data: bytes | Path) -> ArchiveObject:
        """Store bytes or a file under the key, in one part (at most 5 GB); return the object."""

        def put() -> None:
            with s3_errors(s3_url(bucket, key)):
                if isinstance(data, bytes):
                    self._clients.s3.put_object(Bucket=bucket, Key=key, Body=data)
                else:
                    with data.open("rb") as file:
                        self._clients.s3.put_object(Bucket=bucket, Key=key, Body=file)

        self._retried(put)
        return self.head(bucket, key)

    def ensure_bucket(self, bucket: str) -> None:
        """Create the bucket unless it exists."""
        self._retried(lambda: self._ensure_bucket(bucket))

    def reachable(self) -> bool:
        """Return whether the service answers one request, without retries and with any answer.

        The request is about the bucket that was fetched from last: a service of one bucket, or a
        proxy in front of it, may know no other.
        """
        try:
            with s3_errors("the archive"):
                if self._last_bucket is None:
                    self._clients.s3.list_buckets(MaxBuckets=1)
                else:
                    self._clients.s3.list_objects_v2(Bucket=self._last_bucket, MaxKeys=1)
        except (ArchiveUnavailable, UsageError):
            return False
        except PermanentError:
            pass
        return True

    def _retried(self, operation: Callable[[], T]) -> T:
        return tried(operation, self._settings.s3_tries, self._sleep)

    def _page(self, bucket: str, prefix: str, token: str | None) -> Page:
        request: ListObjectsV2RequestTypeDef = {"Bucket": bucket, "Prefix": prefix}
        if token is not None:
            request["ContinuationToken"] = token
        with s3_errors(s3_url(bucket, prefix)):
            # boto3 asks for URL-encoded keys and decodes them: XML cannot carry every key.
            answer = self._clients.s3.list_objects_v2(**request)
        objects = tuple(
            ArchiveObject(
                bucket, item["Key"], _bare(item["ETag"]), item["Size"], item["LastModified"]
            )
            for item in answer.get("Contents", ())
        )
        next_token = answer.get("NextContinuationToken") if answer["IsTruncated"] else None
        if answer["IsTruncated"] and next_token is None:
            raise ArchiveUnavailable(f"s3://{bucket}: a page of the listing without a token")
        return Page(objects, next_token)

    def _head(self, bucket: str, key: str) -> ArchiveObject:
        with s3_errors(s3_url(bucket, key)):
            try:
                found: HeadObjectOutputTypeDef | GetObjectOutputTypeDef
                found = self._clients.s3.head_object(Bucket=bucket, Key=key)
            except ClientError:
                # The answer to HEAD has no body: GET says which of the reasons it was. If GET is
                # allowed, its answer describes the object as well.
                got = self._clients.s3.get_object(Bucket=bucket, Key=key)
                got["Body"].close()
                found = got
        return ArchiveObject(
            bucket,
            key,
            _bare(found["ETag"]),
            found["ContentLength"],
            found["LastModified"],
            found.get("VersionId"),
        )

    def _ensure_bucket(self, bucket: str) -> None:
        try:
            self._page(bucket, "", None)
        except (BucketUnknown, ObjectMissing):
            with s3_errors(f"s3://{bucket}"):
                region = self._clients.service.region
                if region == "us-east-1":  # which the API does not let one name
                    self._clients.s3.create_bucket(Bucket=bucket)
                else:
                    self._clients.s3.create_bucket(
                        Bucket=bucket,
                        CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                    )

    def _get(self, obj: ArchiveObject, max_bytes: int) -> Fetched:
        what = s3_url(obj.bucket, obj.key)
        data = bytearray()
        with self._answer(obj.bucket, obj.key, obj.version_id, obj.etag) as answer:
            for block in self._body(answer, max_bytes, what):
                data += block
        etag, version = answer.headers.get("ETag", ""), answer.headers.get("x-amz-version-id")
        return Fetched(bytes(data), hashlib.sha256(data).digest(), _bare(etag), version)

    def _download(self, bucket: str, key: str, out: IO[bytes], size: int) -> None:
        out.seek(0)
        out.truncate()
        with self._answer(bucket, key, None, "") as answer:
            for block in self._body(answer, size, s3_url(bucket, key)):
                out.write(block)

    @contextmanager
    def _answer(
        self, bucket: str, key: str, version_id: str | None, etag: str
    ) -> "Iterator[BaseHTTPResponse]":
        """Yield the answer to a fetch, if it is the object; a read body frees its connection."""
        what = s3_url(bucket, key)
        headers = {"If-Match": f'"{etag}"'} if etag else {}
        with s3_errors(what):
            answer = self._clients.get(bucket, key, version_id=version_id, headers=headers)
            try:
                if answer.status != 200:
                    said = bytearray()
                    for block in self._blocks(answer, what):
                        said += block
                        if len(said) >= _MOST_OF_AN_ERROR:
                            break
                    raise answer_error(answer.status, answer.headers, bytes(said), what)
                yield answer
            except BaseException:
                answer.close()  # a body that is not read to its end cannot share its connection
                raise
            answer.release_conn()

    def _body(self, answer: "BaseHTTPResponse", max_bytes: int, what: str) -> Iterator[bytes]:
        """Yield the body, if it is as long as declared, and not too long."""
        declared = answer.headers.get("Content-Length", "")
        if not declared.isdecimal():
            raise ArchiveUnavailable(f"{what}: the answer does not say how long it is")
        _check_size(int(declared), max_bytes)
        came = 0
        for block in self._blocks(answer, what):
            came += len(block)
            yield block
        if came != int(declared):
            raise ArchiveUnavailable(f"{what}: {came} of {declared} bytes came")

    def _blocks(self, answer: "BaseHTTPResponse", what: str) -> Iterator[bytes]:
        """Yield the body as it arrives, unless it falls below the least average rate.

        Silence between two reads ends by the connection's own time-out.
        """
        counted_from = time.monotonic() + self._settings.s3_timeout
        came = 0
        while block := answer.read1(_BLOCK):
            came += len(block)
            yield block
            seconds = time.monotonic() - counted_from
            if came < self._settings.s3_least_rate * seconds:
                raise ArchiveUnavailable(
                    f"{what}: only {came} bytes came in"
                    f" {seconds + self._settings.s3_timeout:.0f} s (GEOTAG_S3_LEAST_RATE)"
                )


class S3Services:
    """The S3 services that a process uses: one `S3Service` for each endpoint and credential."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._services: dict[S3Access, S3Service] = {}

    def of(self, archive: ArchiveRecord) -> S3Service:
        """Return the service of a registered archive."""
        service = access_of(self._settings, archive)
        if service not in self._services:
            self._services[service] = S3Service(self._settings, service)
        return self._services[service]


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooManyBytes(f"{size} bytes, the limit is {max_bytes}")


def _bare(etag: str) -> str:
    return etag.strip('"')
