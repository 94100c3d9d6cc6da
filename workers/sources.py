"""Where photographs are found: a prefix of a bucket, or a manifest that names them.

Both yield pages of `Found`; a folder of local files is uploaded first and is then a prefix.
"""

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import md5
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet

from workers.archive import Archive, ArchiveObject, parse_s3_url, triage
from workers.errors import PermanentError, UsageError

_PAGE = 1000
_REQUESTS_AT_ONCE = 16


@dataclass(frozen=True)
class Found:
    """A page of objects that are to have an outcome, and how many were left out."""

    objects: tuple[ArchiveObject, ...]
    skipped: int


def from_prefix(archive: Archive, bucket: str, prefix: str) -> Iterator[Found]:
    """Every photograph under a prefix; sidecars and folder markers are left out.

    Raises:
        BucketUnknown, ObjectForbidden, ArchiveUnavailable: see workers/errors.py.
    """
    for page in archive.list_objects(bucket, prefix):
        chosen = tuple(obj for obj in page.objects if triage(obj) is None)
        yield Found(chosen, len(page.objects) - len(chosen))


def from_manifest(archive: Archive, path: Path) -> Iterator[Found]:
    """Every object that a manifest names, in its order, whether it is there or not.

    A missing or forbidden object is yielded without an ETag, so that the worker records what is
    wrong with it.

    Raises:
        UsageError: the file is no manifest; the message says why.
    """
    urls = manifest_urls(path)

    def head(url: str) -> ArchiveObject:
        bucket, key = parse_s3_url(url)
        try:
            return archive.head(bucket, key)
        except PermanentError:
            return ArchiveObject(bucket, key, etag="", size=0, last_modified=None)

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
        while page := list(islice(urls, _PAGE)):
            yield Found(tuple(threads.map(head, page)), 0)


def manifest_urls(path: Path) -> Iterator[str]:
    """The `s3://` URLs of a manifest: a CSV or Parquet file with a column of them.

    The column is the first one whose first value is such a URL; a CSV needs no header.

    Raises:
        UsageError: no such column, a value that is no S3 URL (with its row), or an unreadable file.
    """
    try:
        rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        column: int | None = None
        for number, row in enumerate(rows, 1):
            if column is None:
                column = next((i for i, v in enumerate(row) if v.startswith("s3://")), None)
                if column is None and number > 1:
                    raise UsageError(f"{path}: row {number} has no column with an s3:// URL")
                if column is None:
                    continue
            if not any(row):
                continue
            url = row[column] if column < len(row) else ""
            if not url.startswith("s3://"):
                raise UsageError(
                    f"{path}: row {number} has {url[:80]!r} where an s3:// URL belongs"
                )
            yield url
        if column is None:
            raise UsageError(f"{path}: no column with s3:// URLs")
    except (UnicodeDecodeError, csv.Error, pyarrow.ArrowInvalid) as error:
        raise UsageError(f"{path} is no readable manifest: {error}") from error


def _csv_rows(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.reader(file)


def _parquet_rows(path: Path) -> Iterator[list[str]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_PAGE):
            for row in batch.to_pylist():
                yield [value if isinstance(value, str) else "" for value in row.values()]


def upload_folder(
    archive: Archive, bucket: str, folder: Path, *, report: Callable[[int, int], None]
) -> str:
    """Upload the files of a folder that the bucket does not hold yet; returns their prefix.

    A file is uploaded under `<folder's name>/<its path in the folder>`, and not again while the
    object has its MD5 for an ETag (which it has after a plain upload).

    Args:
        archive: the S3 service.
        bucket: made where it is missing.
        folder: searched with its subfolders; hidden files are left out.
        report: called with (files looked at, files in all).
    """
    prefix = f"{folder.resolve().name}/"
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not files:
        raise UsageError(f"{folder} holds no files")
    archive.ensure_bucket(bucket)
    known = {
        obj.key: obj.etag for page in archive.list_objects(bucket, prefix) for obj in page.objects
    }

    def put(path: Path) -> None:
        key = prefix + path.relative_to(folder).as_posix()
        data = path.read_bytes()
        if known.get(key) != md5(data, usedforsecurity=False).hexdigest():
            archive.upload(bucket, key, data)

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE // 2) as threads:
        for number, _none in enumerate(threads.map(put, files), 1):
            report(number, len(files))
    return prefix
