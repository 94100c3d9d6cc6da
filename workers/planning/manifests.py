"""Manifest files: CSV or Parquet with a column of `s3://` URLs.

Somebody else wrote them, and a spreadsheet may have been through them. A manifest is read once in
full before anything is planned, in memory that does not grow with it, and a wrong row refuses all
of it, by its number.
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
    """A binary file, as far as it is needed here."""

    def readline(self, size: int, /) -> bytes: ...


Row = tuple[int, RegisteredArchive, str]
"""A row's number, and the archive and key that it names."""


def manifest(archives: S3Services, registered: Sequence[RegisteredArchive], path: Path) -> Source:
    """Every object that a manifest names, in its order, whether it is there or not.

    An object that is missing is listed without an ETag, so that a worker records that. So is one
    that cannot be looked at, as unreadable: nobody knows whether it is there, so the ledger keeps
    what it knows of it, and a worker tries what has no result.

    Raises:
        UsageError: the file is no manifest, or a row of it names what is not to be fetched.
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
            # Access denied, for one: S3 answers so for a missing key too, without ListBucket.
            unreadable[archive.id, key] = f"{error.code}: {error.message}"
            return absent

    return Source(f"manifest {key_of(path.resolve())}", None, pages)


def _state(path: Path) -> list[int]:
    """What changes when a file does."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def rows(path: Path, registered: Sequence[RegisteredArchive]) -> Iterator[Row]:
    """The rows of a manifest that name an object.

    Raises:
        UsageError: a row names none, or one that is in no registered archive.
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
    """The `s3://` URLs of a manifest, each with the number of its row.

    The column is the first one whose first value is such a URL; a CSV needs no header, and blank
    rows are passed over.

    Raises:
        UsageError: no such column, a value that names no object (with its row), or an unreadable
            file.
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
    # OSError: Parquet with a broken page, besides what the file system refuses.
    except (UnicodeDecodeError, pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path} is no readable manifest: {error}") from error


def _names_an_object(url: str) -> bool:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return url.startswith("s3://") and bool(bucket and key)


def _csv_rows(path: Path) -> Iterator[list[str]]:
    with path.open("rb") as file:
        yield from csv_rows(file, str(path))


def csv_rows(file: _Lines, name: str, most: int | None = None) -> Iterator[list[str]]:
    """The rows of a CSV file in UTF-8; memory does not grow with it.

    Raises:
        UsageError: a line is too long, no UTF-8 or no CSV, or the file has more than `most` bytes
            (a zip bomb, say); the message has the line's number.
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
