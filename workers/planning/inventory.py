"""S3 Inventory: the list of a bucket that S3 writes itself, for archives too large to be listed.

A `manifest.json` names data files (gzipped CSV or Parquet) and their columns (Amazon S3 User Guide,
"Locating your inventory list"). A wrong manifest is refused before anything is planned. A wrong row
of a data file refuses the inventory when it is read. Data files are downloaded to a temporary file,
so memory does not grow with them.
"""

import gzip
import hashlib
import json
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, Any
from urllib.parse import unquote_plus

import pyarrow

from db.archives import RegisteredArchive
from db.objects import ArchiveObject
from db.planning import ListedPage
from db.runs import Cursor
from workers.errors import UsageError
from workers.planning.manifests import csv_rows
from workers.planning.parquet import is_text, parquet_rows
from workers.planning.sources import (
    DONE,
    CursorRefused,
    Source,
    archive_of,
    as_page,
    check_key,
    selection,
)
from workers.s3.service import S3Services, parse_s3_url, s3_url

INVENTORY = "inventory s3://"
PARTIAL = "partial "

# An inventory may lack objects of its last two days (Amazon S3 User Guide, "Amazon S3 Inventory
# consistency").
_LAG = timedelta(hours=48)
_PAGE = 1000
_LARGEST_MANIFEST = 2**24  # bytes
_LARGEST_SIZE = 2**63 - 1  # of PostgreSQL's bigint
# A row has an ETag of 16 random bytes, so gzip cannot shrink it to a hundredth.
_MOST_INFLATION = 100
_NEEDED = ("bucket", "key", "size", "etag")
_TEXTS = ("bucket", "key", "etag")
_KNOWN = (*_NEEDED, "islatest", "isdeletemarker", "lastmodifieddate")


@dataclass(frozen=True)
class _File:
    key: str
    size: int
    md5: str


@dataclass(frozen=True)
class _Manifest:
    """A manifest.json; `columns` are normalised (`ETag` and `e_tag` are `etag`)."""

    digest: str
    source_bucket: str
    created: datetime
    parquet: bool
    columns: tuple[str, ...]
    files: tuple[_File, ...]


def inventory(
    archives: S3Services,
    registered: Sequence[RegisteredArchive],
    archive: RegisteredArchive,
    name: str,
) -> Source:
    """Return the source of an archive's photographs in an inventory, in their current versions.

    Args:
        archives: the S3 services.
        registered: the archives; the inventory's files must be in one of them.
        archive: whose objects it lists.
        name: `inventory s3://bucket/…/manifest.json`, or `partial inventory s3://…` if it does not
            cover the whole archive, so that nothing is marked as vanished.

    Raises:
        UsageError: it is not a readable inventory of this archive.
        GeotagError: it cannot be fetched.
    """
    bucket, key = parse_s3_url(name[name.index("s3://") :])
    where = archive_of(registered, bucket, key)
    said = _manifest(archives, where, key)
    if said.source_bucket != archive.bucket:
        raise UsageError(
            f"{s3_url(bucket, key)} is the inventory of {said.source_bucket!r}, not of"
            f" s3://{archive.bucket}"
        )

    def pages(cursor: Cursor | None) -> Iterator[ListedPage]:
        if cursor == DONE:
            return
        if cursor and cursor["manifest"] != said.digest:
            raise CursorRefused
        file, row = (cursor["file"], cursor["row"]) if cursor else (0, 0)
        for number in range(file, len(said.files)):
            yield from _pages_of(archives, where, archive, said, number, row)
            row = 0

    prefix = None if name.startswith(PARTIAL) else archive.prefix
    return Source(name, archive, pages, prefix, said.created, _LAG)


def _pages_of(
    archives: S3Services,
    where: RegisteredArchive,
    archive: RegisteredArchive,
    said: _Manifest,
    number: int,
    skip: int,
) -> Iterator[ListedPage]:
    """Yield the pages of a data file after its first `skip` rows."""
    file = said.files[number]
    name = s3_url(where.bucket, file.key)
    chosen = selection(archive)
    with _downloaded(archives, where, file) as data:
        rows = (_parquet if said.parquet else _csv)(data, name, said, file)
        left = (
            (at, _object(row, archive, f"{name}: row {at}"))
            for at, row in islice(enumerate(rows, 1), skip, None)
        )
        while page := list(islice(left, _PAGE)):
            objects = [obj for _at, obj in page if obj is not None]
            after = {"file": number, "row": page[-1][0], "manifest": said.digest}
            yield as_page(archive, objects, chosen, after)


def _object(row: dict[str, Any], archive: RegisteredArchive, name: str) -> ArchiveObject | None:
    """Return the object of a row; None for an old version, a delete marker, or another prefix.

    S3 leaves IsLatest and IsDeleteMarker empty for a bucket without versions, where each object is
    the latest and none is a delete marker.

    Raises:
        UsageError: a value is missing or wrong; the message names the row.
    """
    if row["bucket"] != archive.bucket:
        raise UsageError(f"{name} is of the bucket {row['bucket']!r}, not of {archive.bucket}")
    latest = _flag(row, "islatest", name, empty=True)
    if not latest or _flag(row, "isdeletemarker", name, empty=False):
        return None
    key, etag = row["key"], (row["etag"] or "").strip('"')
    if key and not key.startswith(archive.prefix):
        return None
    wrong = "no key" if not key else check_key(key) or (None if etag else "no ETag")
    if wrong:
        raise UsageError(f"{name} has {wrong}: {str(key)[:80]!r}")
    if row["size"] in (None, ""):
        raise UsageError(f"{name} has no size: {key[:80]!r}")
    try:
        size = int(row["size"])
        modified = _time(row.get("lastmodifieddate"))
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name}: {error}") from None
    if not 0 <= size <= _LARGEST_SIZE:
        raise UsageError(f"{name} has the size {size}: {key[:80]!r}")
    return ArchiveObject(archive.bucket, key, etag, size, modified)


def _flag(row: dict[str, Any], column: str, name: str, *, empty: bool) -> bool:
    """Return the truth value of a column, or `empty` where the column or its value is missing."""
    value = row.get(column)
    if value is None or value == "":
        return empty
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise UsageError(f"{name} has {str(value)[:80]!r} in {column}: true or false belongs there")
    return found


def _time(value: object) -> datetime | None:
    if value is None or value == "":
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _manifest(archives: S3Services, where: RegisteredArchive, key: str) -> _Manifest:
    name = s3_url(where.bucket, key)
    service = archives.of(where)
    data = service.fetch(service.head(where.bucket, key), _LARGEST_MANIFEST).data
    try:
        said = json.loads(data)
        form = said["fileFormat"]
        destination = str(said["destinationBucket"]).rpartition(":")[2]
        columns = tuple(_columns(said["fileSchema"], parquet=form == "Parquet"))
        manifest = _Manifest(
            digest=hashlib.sha256(data).hexdigest(),
            source_bucket=str(said["sourceBucket"]),
            created=datetime.fromtimestamp(int(said["creationTimestamp"]) / 1000, UTC),
            parquet=form == "Parquet",
            columns=columns,
            files=tuple(
                _File(str(f["key"]), int(f["size"]), str(f["MD5checksum"])) for f in said["files"]
            ),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{name} is no inventory: {type(error).__name__}: {error}") from None
    if form not in ("CSV", "Parquet"):
        raise UsageError(f"{name}: its files are {form!r}; CSV and Parquet can be read")
    if missing := [column for column in _NEEDED if column not in columns]:
        raise UsageError(f"{name} lacks the columns {', '.join(missing)}: add them to its set-up")
    for file in manifest.files:
        if destination != where.bucket or not file.key.startswith(where.prefix):
            raise UsageError(
                f"{name}: its file {s3_url(destination, file.key)[:300]} is not in the archive"
                f" {where.name}, where it is itself"
            )
    return manifest


def _columns(schema: str, *, parquet: bool) -> list[str]:
    """Return normalised column names from `Bucket, Key, …` or Parquet's `message … { … }`."""
    names = (
        re.findall(r"\w+ +\w+ +(\w+) *(?:\([^)]*\))*;", schema) if parquet else schema.split(",")
    )
    return [_short(name) for name in names]


def _short(column: str) -> str:
    """Return a normalised column name: `etag` for `ETag` and `e_tag`."""
    return column.strip().replace("_", "").lower()


@contextmanager
def _downloaded(archives: S3Services, where: RegisteredArchive, file: _File) -> Iterator[IO[bytes]]:
    """Download a data file to a temporary file and check its MD5 against the manifest."""
    name = s3_url(where.bucket, file.key)
    with tempfile.TemporaryFile() as data:
        archives.of(where).download(where.bucket, file.key, data, file.size)
        data.seek(0)
        digest = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != file.md5.lower():
            raise UsageError(f"{name} is not the file that its manifest names: another MD5")
        data.seek(0)
        yield data


def _csv(data: IO[bytes], name: str, said: _Manifest, file: _File) -> Iterator[dict[str, Any]]:
    """Yield the rows of a gzipped CSV file, which has no header and URL-encoded keys."""
    most = file.size * _MOST_INFLATION + 2**20
    try:
        with gzip.open(data) as lines:
            for number, row in enumerate(csv_rows(lines, name, most), 1):
                if len(row) != len(said.columns):
                    raise UsageError(
                        f"{name}: row {number} has {len(row)} columns, and its manifest"
                        f" {len(said.columns)}"
                    )
                found = dict(zip(said.columns, row, strict=True))
                try:
                    found["key"] = unquote_plus(found["key"], errors="strict")
                except UnicodeDecodeError:
                    raise UsageError(f"{name}: row {number} has a key that is no UTF-8") from None
                yield found
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} is no readable gzip: {error}") from None


def _parquet(data: IO[bytes], name: str, said: _Manifest, _file: _File) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, by normalised column name."""
    shorts: dict[str, str] = {}

    def choose(schema: pyarrow.Schema) -> list[str]:
        present = {_short(column): column for column in schema.names}
        if missing := [column for column in _NEEDED if column not in present]:
            raise UsageError(f"{name} lacks the columns {', '.join(missing)}")
        for column in (present[short] for short in _TEXTS):
            if not is_text(schema.field(column).type, binary=True):
                raise UsageError(f"{name}: the column {column} is no text")
        shorts.update((present[short], short) for short in _KNOWN if short in present)
        return list(shorts)

    try:
        for row in parquet_rows(data, name, choose):
            yield {shorts[column]: _text(value) for column, value in row.items()}
    # OverflowError, ValueError: a time that Python cannot represent.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} is no readable Parquet file: {error}") from None


def _text(value: object) -> object:
    """Return the text of bytes: Parquet's `binary` columns may not be declared as text."""
    return value.decode() if isinstance(value, bytes) else value
