"""Where photographs are found: a prefix of a bucket, or a manifest that names them.

Both yield pages of `Found`; a folder of local files is uploaded first and is then a prefix.
"""

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import md5, sha256
from itertools import islice
from os import fsencode
from pathlib import Path, PurePath

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

    The column is the first one whose first value is such a URL; a CSV needs no header, and blank
    rows are passed over.

    Raises:
        UsageError: no such column, a value that names no object (with its row), or an unreadable
            file.
    """
    try:
        rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        column: int | None = None
        header: list[str] = []
        for number, row in enumerate(rows, 1):
            if not any(row):
                continue
            if column is None:
                column = next((i for i, v in enumerate(row) if v.startswith("s3://")), None)
            if column is None and header:
                raise UsageError(f"{path}: row {number} has no column with an s3:// URL")
            if column is None:
                header = row
                continue
            url = row[column] if column < len(row) else ""
            if not _names_an_object(url):
                raise UsageError(
                    f"{path}: row {number} has {url[:80]!r} where s3://bucket/key belongs"
                )
            yield url
        if column is None:
            raise UsageError(f"{path}: no column with s3:// URLs")
    # OSError: Parquet with a broken page, besides what the file system refuses.
    except (UnicodeDecodeError, csv.Error, pyarrow.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path} is no readable manifest: {error}") from error


def _names_an_object(url: str) -> bool:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return url.startswith("s3://") and bool(bucket and key)


def _csv_rows(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        yield from csv.reader(file)


def _parquet_rows(path: Path) -> Iterator[list[str]]:
    with pyarrow.parquet.ParquetFile(path) as file:
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
        for batch in file.iter_batches(_PAGE, columns=texts):
            for row in batch.to_pylist():
                yield [value or "" for value in row.values()]


def _is_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def key_of(path: PurePath) -> str:
    """A path as a key.

    Raises:
        UsageError: it is no UTF-8, as S3 keys are (Latin-1 names in old archives).
    """
    key = path.as_posix()
    try:
        key.encode()
    except UnicodeEncodeError:
        shown = key.encode(errors="backslashreplace").decode()
        raise UsageError(f"the name of {shown} is no UTF-8, as S3 keys are: rename it") from None
    return key


def folder_prefix(folder: Path) -> str:
    """The prefix that a folder is uploaded under: `photos-1a2b3c/`.

    Its name, for people, and six digits of its whole path's SHA-256, so that /2001/photos and
    /2002/photos do not overwrite each other.

    Raises:
        UsageError: its name is no UTF-8.
    """
    whole = folder.resolve()
    digest = sha256(fsencode(whole), usedforsecurity=False).hexdigest()
    return f"{key_of(PurePath(whole.name))}-{digest[:6]}/"


def upload_folder(
    archive: Archive, bucket: str, folder: Path, *, report: Callable[[int, int], None]
) -> str:
    """Upload the files of a folder that the bucket does not hold yet; returns their prefix.

    A file is uploaded under the folder's prefix and its path in the folder, and not again while
    the object has its MD5 for an ETag (which it has after a plain upload).

    Args:
        archive: the S3 service.
        bucket: made where it is missing.
        folder: searched with its subfolders. Links to files are followed, as `aws s3 cp` does, and
            linked folders are not entered. Hidden files stay where they are, and so do those that
            a run would leave out by their names (sidecars, films).
        report: called with (files looked at, files in all).

    Raises:
        UsageError: nothing is left to upload, or a file cannot be read or named in S3.
    """
    prefix = folder_prefix(folder)
    files = {prefix + key_of(path.relative_to(folder)): path for path in _visible_files(folder)}
    files = {
        key: path
        for key, path in files.items()
        if triage(ArchiveObject(bucket, key, etag="", size=0, last_modified=None)) is None
    }
    if not files:
        raise UsageError(f"{folder} holds no files that could be photographs")
    archive.ensure_bucket(bucket)
    known = {
        obj.key: obj.etag for page in archive.list_objects(bucket, prefix) for obj in page.objects
    }

    def put(key: str) -> None:
        data = read_file(files[key])
        if known.get(key) != md5(data, usedforsecurity=False).hexdigest():
            archive.upload(bucket, key, data)

    with ThreadPoolExecutor(_REQUESTS_AT_ONCE // 2) as threads:
        for number, _none in enumerate(threads.map(put, sorted(files)), 1):
            report(number, len(files))
    return prefix


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def read_file(path: Path) -> bytes:
    """The bytes of a file of the user's.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
