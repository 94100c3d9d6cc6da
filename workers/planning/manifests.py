"""Manifest files: CSV or Parquet with a column of `s3://` URLs.

A manifest is checked in full before anything is planned. A wrong row refuses the whole manifest,
and the message has its number. Memory does not grow with the file.
"""

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import pyarrow

from db.archives import RegisteredArchive
from db.objects import ArchiveObject
from db.planning import ListedPage
from db.runs import Cursor
from workers.errors import ObjectMissing, PermanentError, UsageError
from workers.planning.parquet import is_text, parquet_rows
from workers.planning.sources import CursorRefused, Source, archive_of, as_listed, check_key
from workers.planning.uploads import key_of
from workers.s3.service import S3Services

_PAGE = 1000
_REQUESTS_AT_ONCE = 16
_LONGEST_LINE = 2**16  # bytes; a key has 1024 at most
_LONGEST_ROW = 2**20  # bytes; a quoted cell may have line breaks


class _Lines(Protocol):
    """A binary file that is read by lines."""

    def readline(self, size: int, /) -> bytes: ...


Row = tuple[int, RegisteredArchive, str]
"""A row's number, and the archive and key of its object."""


def manifest(archives: S3Services, registered: Sequence[RegisteredArchive], path: Path) -> Source:
    """Return the source of all objects that a manifest names, in its order.

    A missing object is listed without an ETag, and a worker records the failure. An object whose
    HEAD is refused may exist, so it is listed as unreadable: the ledger keeps what it knows of it,
    and a worker tries it if it has no outcome.

    Raises:
        UsageError: the file is not a manifest, or a row names an object that must not be requested.
    """
    for _row in rows(path, registered):
        pass

    def pages(cursor: Cursor | None) -> Iterator[ListedPage]:
        state = _state(path)
        if cursor and cursor["file"] != state:
            raise CursorRefused
        after = cursor["row"] if cursor else 0
        left = (row for row in rows(path, registered) if row[0] > after)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            while page := list(islice(left, _PAGE)):
                unreadable: dict[tuple[int, str], str] = {}
                objects = list(threads.map(partial(head, unreadable), page))
                here: Cursor = {"row": page[-1][0], "file": state}
                yield ListedPage(objects, 0, here, unreadable=unreadable)

    def head(unreadable: dict[tuple[int, str], str], row: Row) -> ArchiveObject:
        _number, archive, key = row
        absent = ArchiveObject(archive.bucket, key, archive_id=archive.id)
        try:
            return as_listed(archive, archives.of(archive).head(archive.bucket, key))
        except ObjectMissing:
            return absent
        except PermanentError as error:
            # Without the permission ListBucket, S3 answers 403 for a missing key as well.
            unreadable[archive.id, key] = f"{error.code}: {error.message}"
            return absent

    return Source(f"manifest {key_of(path.resolve())}", None, pages)


def _state(path: Path) -> list[int]:
    """Return a value that changes when the file does."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def rows(path: Path, registered: Sequence[RegisteredArchive]) -> Iterator[Row]:
    """Yield the rows of a manifest with the archive and key of each.

    Raises:
        UsageError: a row names no object, or one that is in no registered archive.
    """
    for number, url in manifest_urls(path):
        bucket, _slash, key = url.removeprefix("s3://").partition("/")
        wrong = check_key(key)
        if wrong:
            raise UsageError(f"{path}: row {number} has {wrong}: {url[:80]!r}")
        try:
            archive = archive_of(registered, bucket, key)
        except UsageError as error:
            raise UsageError(f"{path}: row {number}: {error.message}") from None
        yield number, archive, key


def manifest_urls(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the `s3://` URLs of a manifest, each with its row number.

    They are in the first column whose first value is such a URL. A CSV file needs no header. Blank
    rows are skipped.

    Raises:
        UsageError: there is no such column, a value names no object, or the file is unreadable.
    """
    try:
        found = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        column: int | None = None
        header: list[str] = []
        for number, row in enumerate(found, 1):
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
            yield number, url
        if column is None:
            raise UsageError(f"{path}: no column with s3:// URLs")
    # OSError: of the file system, or of Arrow for a broken page.
    except (UnicodeDecodeError, pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} is no readable manifest: {error}") from error


def _names_an_object(url: str) -> bool:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return url.startswith("s3://") and bool(bucket and key)


def _csv_rows(path: Path) -> Iterator[list[str]]:
    with path.open("rb") as file:
        yield from csv_rows(file, str(path))


def csv_rows(file: _Lines, name: str, most: int | None = None) -> Iterator[list[str]]:
    """Yield the rows of a CSV file in UTF-8; memory does not grow with the file.

    Raises:
        UsageError: a line or row is too long, is not UTF-8 or not CSV, or the file has more than
            `most` bytes (a zip bomb). The message has the line number.
    """
    lines = _Decoded(file, name, most)
    reader = csv.reader(lines)
    try:
        for row in reader:
            lines.begin_row()
            yield row
    except csv.Error as error:
        raise UsageError(f"{name}: line {reader.line_num} is no CSV: {error}") from error


class _Decoded(Iterator[str]):
    """The lines of a CSV file as text, up to limits on a line, a row and the file."""

    def __init__(self, file: _Lines, name: str, most: int | None) -> None:
        self._file = file
        self._name = name
        self._most = most
        self._number = self._size = self._row = 0

    def begin_row(self) -> None:
        """Count the bytes of the next row from here."""
        self._row = self._size

    def __next__(self) -> str:
        line = self._file.readline(_LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._size += len(line)
        name, number = self._name, self._number
        if len(line) > _LONGEST_LINE:
            raise UsageError(f"{name}: line {number} is longer than {_LONGEST_LINE} bytes")
        if self._size - self._row > _LONGEST_ROW:
            raise UsageError(
                f"{name}: the row that ends at line {number} or later is longer than {_LONGEST_ROW}"
                " bytes: is a quotation mark not closed?"
            )
        if self._most is not None and self._size > self._most:
            raise UsageError(
                f"{name}: by line {number} it is larger than {self._most} bytes unpacked"
            )
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{name}: line {number} is no UTF-8: {error}") from None


def _parquet_rows(path: Path) -> Iterator[list[str]]:
    with path.open("rb") as file:
        for row in parquet_rows(file, str(path), _texts):
            yield [value or "" for value in row.values()]


def _texts(schema: pyarrow.Schema) -> list[str]:
    return [field.name for field in schema if is_text(field.type)]
