"""Valid and invalid S3 Inventories, read from moto's S3 service."""

import gzip
import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import SecretStr

from db.archives import RegisteredArchive
from db.planning import ListedPage
from workers.errors import UsageError
from workers.planning import inventory as inventories
from workers.planning.inventory import inventory
from workers.planning.sources import CursorRefused, Source
from workers.s3.service import S3Services
from workers.settings import WorkerSettings

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"
CREATED = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def archives(endpoint: str) -> S3Services:
    settings = WorkerSettings(
        s3_endpoint=endpoint,
        s3_access_key="key",
        s3_secret_key=SecretStr("secret"),
        s3_tries=1,
    )
    return S3Services(settings)


class Written:
    """An inventory of the bucket `photos`, written to a bucket of its own."""

    def __init__(self, archives: S3Services, endpoint: str) -> None:
        name = f"inventory-{uuid.uuid4().hex[:12]}"
        self.archives = archives
        self.where = RegisteredArchive(name, endpoint, name, "daily/", allow_private=True, id=1)
        self.archive = RegisteredArchive("photos", endpoint, "photos", "p/", id=2)
        self.service = archives.of(self.where)
        self.service.ensure_bucket(name)
        self.manifest: dict[str, Any] = {
            "sourceBucket": "photos",
            "destinationBucket": f"arn:aws:s3:::{name}",
            "version": "2016-11-30",
            "creationTimestamp": str(int(CREATED.timestamp() * 1000)),
            "fileFormat": "CSV",
            "fileSchema": SCHEMA,
            "files": [],
        }

    def put(self, data: bytes, **changes: Any) -> None:
        """Add a data file."""
        key = f"daily/data/{len(self.manifest['files'])}"
        self.service.upload(self.where.bucket, key, data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        self.manifest["files"].append({"key": key, "size": len(data), "MD5checksum": md5} | changes)

    def csv(self, *rows: str) -> None:
        self.put(gzip.compress("".join(f"{row}\n" for row in rows).encode()))

    def source(self, manifest: bytes | None = None, partial: str = "") -> Source:
        data = json.dumps(self.manifest).encode() if manifest is None else manifest
        self.service.upload(self.where.bucket, "daily/manifest.json", data)
        name = f"{partial}inventory s3://{self.where.bucket}/daily/manifest.json"
        return inventory(self.archives, [self.where, self.archive], self.archive, name)

    def refused(self, match: str) -> str:
        with pytest.raises(UsageError, match=match) as caught:
            list(self.source().pages(None))
        return caught.value.message


@pytest.fixture
def written(archives: S3Services) -> Written:
    return Written(archives, archives._settings.s3_endpoint or "")


def row(key: str, **changes: str) -> str:
    """Return a row as S3 writes it: each cell quoted, the key URL-encoded."""
    cells = {
        "Bucket": "photos", "Key": quote_plus(key, safe="/"), "VersionId": "", "IsLatest": "true",
        "IsDeleteMarker": "false", "Size": "5", "LastModifiedDate": "2026-10-31T01:02:03.000Z",
        "ETag": "0123456789abcdef0123456789abcdef",
    } | changes  # fmt: skip
    return ",".join(f'"{cell}"' for cell in cells.values())


def keys(pages: list[ListedPage]) -> list[str]:
    return [obj.key for page in pages for obj in page.objects]


def test_csv(written: Written) -> None:
    written.csv(
        row("p/a b+c%/é.jpg"),
        row("p/old.jpg", IsLatest="false"),
        row("p/deleted.jpg", IsDeleteMarker="true", Size="", ETag=""),
        row("q/elsewhere.jpg"),
        row("p/a.xmp"),
    )
    written.csv(row("p/=cmd|' ,C calc'!A0.jpg"))
    source = written.source()
    pages = list(source.pages(None))
    assert keys(pages) == ["p/a b+c%/é.jpg", "p/=cmd|' ,C calc'!A0.jpg"]
    first = pages[0].objects[0]
    assert (first.archive_id, first.size, first.etag[:4]) == (2, 5, "0123")
    assert first.last_modified == datetime(2026, 10, 31, 1, 2, 3, tzinfo=UTC)
    assert [page.left_out for page in pages] == [["p/a.xmp"], []]
    assert sum(page.skipped for page in pages) == 1
    whole = source.whole(datetime.now(UTC))
    assert whole is not None
    # An inventory may lack objects of the last two days before it was written.
    assert (whole.prefix, whole.as_of) == ("p/", CREATED - timedelta(hours=48))
    assert written.source(partial="partial ").whole(CREATED) is None


def test_parquet(written: Written) -> None:
    written.manifest |= {
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary bucket (UTF8); required binary key"
        " (UTF8); optional boolean is_latest; optional int64 size; optional int64"
        " last_modified_date (TIMESTAMP(MILLIS,true)); optional binary e_tag (UTF8);}",
    }
    table = pyarrow.table(
        {
            "bucket": ["photos"] * 3,
            "key": ["p/a b+c%/é.jpg", "p/old.jpg", "q/x.jpg"],
            "is_latest": [True, False, True],
            "size": [5, 6, 7],
            "last_modified_date": pyarrow.array([CREATED] * 3, pyarrow.timestamp("ms", "UTC")),
            "e_tag": ["e1", "e2", "e3"],
        }
    )
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, out)
    written.put(out.getvalue().to_pybytes())
    (page,) = written.source().pages(None)
    (found,) = page.objects
    assert (found.key, found.size, found.etag, found.last_modified) == (
        "p/a b+c%/é.jpg", 5, "e1", CREATED,
    )  # fmt: skip


def test_listing_resumes_after_any_page(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventories, "_PAGE", 2)
    for file in range(2):
        written.csv(*(row(f"p/{file}{n}.jpg") for n in range(5)))
    source = written.source()
    pages = list(source.pages(None))
    assert [len(page.objects) for page in pages] == [2, 2, 1, 2, 2, 1]
    for number, page in enumerate(pages):
        assert list(source.pages(page.cursor)) == pages[number + 1 :]
    written.csv(row("p/more.jpg"))
    with pytest.raises(CursorRefused):
        list(written.source().pages(pages[0].cursor))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row("p/a.jpg", Bucket="secrets"), "'secrets', not of photos"),
        ('"photos","p/a.jpg"', "has 2 columns"),
        (row("p/a.jpg") + ',"=1+1"', "has 9 columns"),
        (row("p/a.jpg", Key="p/%FF.jpg"), "no UTF-8"),
        (row("p/a.jpg", Key="p/%00.jpg"), "a NUL"),
        (row("p/../../etc/passwd"), "between slashes"),
        (row(""), "no key"),
        (row("p/a.jpg", ETag=""), "no ETag"),
        (row("p/a.jpg", Size="=1+1"), "=1"),
        (row("p/a.jpg", Size=""), "no size"),
        (row("p/a.jpg", IsLatest="yes"), "'yes'"),
        (row("p/a.jpg", LastModifiedDate="yesterday"), "yesterday"),
    ],
)
def test_a_wrong_row_is_named(written: Written, bad: str, why: str) -> None:
    written.csv(row("p/a.jpg"), row("p/b.jpg"), bad, row("p/c.jpg"))
    message = written.refused("row 3")
    assert why in message
    assert f"s3://{written.where.bucket}/daily/data/0" in message


def test_broken_data_files_are_named(written: Written) -> None:
    cases: list[tuple[bytes, str]] = [
        (b"no gzip", "no readable gzip"),
        (gzip.compress(row("p/a.jpg").encode() * 100)[:-20], "no readable gzip"),
        (gzip.compress(b"\xff\xfe\n"), "line 1 is no UTF-8"),
        (gzip.compress(b'"' + b"x" * 100_000), "line 1 is longer"),
    ]
    for data, why in cases:
        written.manifest["files"] = []
        written.put(data)
        written.refused(why)


def test_zip_bomb_is_refused_before_it_is_unpacked(written: Written) -> None:
    bomb = gzip.compress((row("q/a.jpg") + "\n").encode() * 400_000)
    written.put(bomb)
    assert len(bomb) < 400_000
    written.refused("bytes unpacked")


def test_data_file_with_another_checksum_is_refused(written: Written) -> None:
    written.put(gzip.compress(row("p/a.jpg").encode()), MD5checksum="0" * 32)
    written.refused("another MD5")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fileFormat": "ORC"}, "'ORC'"),
        ({"fileSchema": "Bucket, Key, Size"}, "lacks the columns etag"),
        ({"sourceBucket": "other"}, "inventory of 'other'"),
        ({"destinationBucket": "arn:aws:s3:::secrets"}, "s3://secrets/daily/x"),
        ({"files": [{"key": "elsewhere/x", "size": 1, "MD5checksum": "0"}]}, "not in the archive"),
        ({"files": [{"key": "daily/x"}]}, "no inventory"),
        ({"files": 7}, "no inventory"),
        ({"creationTimestamp": "soon"}, "no inventory"),
        ({"creationTimestamp": str(10**30)}, "no inventory"),
    ],
)
def test_invalid_manifest_is_refused_before_data_files_are_read(
    written: Written, changes: dict[str, Any], why: str
) -> None:
    written.manifest["files"] = [{"key": "daily/x", "size": 1, "MD5checksum": "0" * 32}]
    written.manifest |= changes
    with pytest.raises(UsageError) as caught:
        written.source()
    assert why in caught.value.message


@pytest.mark.parametrize("data", [b"{}", b"[]", b"null", b"\xff", b"=cmd|", b"[" * 100_000])
def test_manifest_that_is_no_json_object_is_refused(written: Written, data: bytes) -> None:
    with pytest.raises(UsageError, match="no inventory"):
        written.source(data)


def test_inventory_outside_registered_archives_is_refused(
    written: Written, archives: S3Services
) -> None:
    with pytest.raises(UsageError, match="geotag archive add"):
        inventory(
            archives, [written.archive], written.archive, "inventory s3://elsewhere/manifest.json"
        )


@pytest.mark.parametrize(
    ("latest", "marker"), [("", ""), ("true", ""), ("", "false"), ("TRUE", "False")]
)
def test_rows_of_a_bucket_without_versions_are_current(
    written: Written, latest: str, marker: str
) -> None:
    """S3 leaves IsLatest and IsDeleteMarker empty where a bucket has no versions."""
    written.csv(row("p/a.jpg", IsLatest=latest, IsDeleteMarker=marker, LastModifiedDate=""))
    (page,) = written.source().pages(None)
    assert [(obj.key, obj.last_modified) for obj in page.objects] == [("p/a.jpg", None)]


def parquet_inventory(written: Written, **columns: Any) -> None:
    """Return a Parquet data file of two rows, with nulls where the columns have them."""
    written.manifest |= {
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary bucket (UTF8); required binary key"
        " (UTF8); optional boolean is_latest; optional boolean is_delete_marker; optional int64"
        " size; optional int64 last_modified_date (TIMESTAMP(MILLIS,true)); optional binary e_tag"
        " (UTF8);}",
    }
    table = {
        "bucket": ["photos"] * 2,
        "key": ["p/a.jpg", "p/b.jpg"],
        "is_latest": pyarrow.nulls(2, pyarrow.bool_()),
        "is_delete_marker": pyarrow.nulls(2, pyarrow.bool_()),
        "size": [5, 6],
        "last_modified_date": pyarrow.nulls(2, pyarrow.timestamp("ms", "UTC")),
        "e_tag": ["e1", "e2"],
    } | columns
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(table), out)
    written.put(out.getvalue().to_pybytes())


def test_nulls_of_a_bucket_without_versions_are_current(written: Written) -> None:
    parquet_inventory(written)
    assert keys(list(written.source().pages(None))) == ["p/a.jpg", "p/b.jpg"]


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("size", None, "row 2 has no size"),
        ("size", -1, "row 2 has the size -1"),
        ("e_tag", None, "row 2 has no ETag"),
        ("key", None, "row 2 has no key"),
        ("bucket", None, "row 2 is of the bucket None"),
        ("is_latest", "perhaps", "row 2.*'perhaps'"),
        ("is_delete_marker", "perhaps", "row 2.*'perhaps'"),
    ],
)
def test_other_nulls_are_named(written: Written, column: str, value: object, why: str) -> None:
    first = {
        "size": 5, "e_tag": "e", "key": "p/a.jpg", "bucket": "photos", "is_latest": "true",
        "is_delete_marker": "false",
    }[column]  # fmt: skip
    parquet_inventory(written, **{column: [first, value]})
    written.refused(why)


def test_a_delete_marker_has_neither_size_nor_etag(written: Written) -> None:
    parquet_inventory(written, is_delete_marker=[None, True], size=[5, None], e_tag=["e1", None])
    assert keys(list(written.source().pages(None))) == ["p/a.jpg"]
