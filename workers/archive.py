"""One S3 service: listing, fetching, uploading.

boto3 lists and uploads; obstore fetches, at a fraction of boto3's cost. obstore rewrites some keys
on the way, so those go by boto3 (`obstore_can_express`). Every fetch is conditional on the listed
ETag: what arrives is what was planned, or ObjectChanged.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from botocore.exceptions import ClientError

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
from workers.objects import ArchiveObject, Skip, parse_s3_url, s3_url, triage
from workers.s3clients import S3Clients
from workers.s3errors import s3_errors, tried
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, ListObjectsV2RequestTypeDef
    from obstore import GetOptions

__all__ = [
    "Archive",
    "ArchiveObject",
    "Fetched",
    "Page",
    "Skip",
    "obstore_can_express",
    "parse_s3_url",
    "s3_url",
    "triage",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """Objects in the archive's own order, and the token that the next page starts from.

    The order is not sorted on every service. The token is None on the last page.
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


class Archive:
    """One S3 service, with bounded retries of what may pass; safe to share between threads.

    Make no request before a fork: see workers/s3clients.py.

    Every method raises ArchiveUnavailable once `s3_tries` tries have failed, BucketUnknown,
    ObjectForbidden (which names the credential where that is the reason) and UsageError where
    there is no credential at all or the bucket's name or region is wrong.
    """

    def __init__(
        self, settings: WorkerSettings, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._clients = S3Clients(settings)

    def list_objects(
        self, bucket: str, prefix: str = "", *, start: str | None = None
    ) -> Iterator[Page]:
        """Every object whose key begins with `prefix`, page by page.

        `start` is the `next_token` of a page seen before. Pages hang on tokens alone: continuing
        after a key loses objects on a service that does not list in key order.
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
        """One object as the archive knows it now. Raises ObjectMissing besides."""
        return self._retried(lambda: self._head(bucket, key))

    def fetch(self, obj: ArchiveObject, max_bytes: int) -> Fetched:
        """The bytes of the object, of exactly the listed version and ETag.

        Raises EmptyFile and TooManyBytes, by the listed size without a download, and ObjectMissing
        and ObjectChanged besides. The size that the answer declares is checked again before its
        body is read, and both clients refuse a body of another length: a short one is transient.
        """
        if obj.size == 0:
            raise EmptyFile("the object has no bytes")
        _check_size(obj.size, max_bytes)
        get = self._get_by_obstore if obstore_can_express(obj.key) else self._get_by_boto3
        fetched = self._retried(lambda: get(obj, max_bytes))
        if obj.etag and fetched.etag != obj.etag:  # a service that ignores If-Match
            raise ObjectChanged(f"{s3_url(obj.bucket, obj.key)}: its ETag is no longer the listed")
        return fetched

    def upload(self, bucket: str, key: str, data: bytes | Path) -> ArchiveObject:
        """Store bytes or a file under the key, in one part (at most 5 GB); the object it made."""

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
        """Create the bucket unless it is there."""
        self._retried(lambda: self._ensure_bucket(bucket))

    def reachable(self) -> bool:
        """Whether the service answers at all, whatever it answers; asked once, without retries."""
        try:
            with s3_errors("the archive"):
                self._clients.s3.list_buckets(MaxBuckets=1)
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
                found = self._clients.s3.head_object(Bucket=bucket, Key=key)
            except ClientError:
                # The answer to HEAD has no body: GET says which of the reasons it was.
                self._clients.s3.get_object(Bucket=bucket, Key=key)["Body"].close()
                raise
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
                if self._settings.s3_region == "us-east-1":  # which the API does not let one name
                    self._clients.s3.create_bucket(Bucket=bucket)
                else:
                    self._clients.s3.create_bucket(
                        Bucket=bucket,
                        CreateBucketConfiguration={"LocationConstraint": self._settings.s3_region},  # type: ignore[typeddict-item]
                    )

    def _get_by_obstore(self, obj: ArchiveObject, max_bytes: int) -> Fetched:
        url = s3_url(obj.bucket, obj.key)
        options: GetOptions = {}
        if obj.etag:
            options["if_match"] = f'"{obj.etag}"'
        if obj.version_id:
            options["version"] = obj.version_id
        with s3_errors(url):
            answer = obstore.get(self._clients.store(obj.bucket), obj.key, options=options)
            _check_size(answer.meta["size"], max_bytes)
            data = bytes(answer.bytes())
        return _fetched(data, answer.meta["e_tag"], answer.meta["version"])

    def _get_by_boto3(self, obj: ArchiveObject, max_bytes: int) -> Fetched:
        url = s3_url(obj.bucket, obj.key)
        request: GetObjectRequestTypeDef = {"Bucket": obj.bucket, "Key": obj.key}
        if obj.etag:
            request["IfMatch"] = f'"{obj.etag}"'
        if obj.version_id:
            request["VersionId"] = obj.version_id
        with s3_errors(url):
            answer = self._clients.s3.get_object(**request)
            with closing(answer["Body"]) as body:
                _check_size(answer["ContentLength"], max_bytes)
                data = body.read()
        return _fetched(data, answer["ETag"], answer.get("VersionId"))


def obstore_can_express(key: str) -> bool:
    """Whether obstore asks for this very key.

    It drops a leading or trailing slash silently (which is then another object) and refuses empty,
    `.` and `..` segments and control characters.
    """
    segments = key.split("/")
    return not {"", ".", ".."} & set(segments) and not re.search(r"[\x00-\x1f\x7f]", key)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooManyBytes(f"{size} bytes, the limit is {max_bytes}")


def _fetched(data: bytes, etag: str | None, version_id: str | None) -> Fetched:
    return Fetched(data, hashlib.sha256(data).digest(), _bare(etag or ""), version_id)


def _bare(etag: str) -> str:
    return etag.strip('"')
