"""Read Parquet files in bounded memory, whatever they unpack to.

Arrow unpacks one page of a column at a time, and one dictionary for each column of a row group. The
headers of all pages are read first, and a file whose pages are too large is refused. The sizes in
the file's footer are not used: a footer can state less than the pages hold. Texts are read as
dictionaries, so that a value that many rows repeat is in memory once.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from workers.errors import UsageError
from workers.planning.thrift import read_struct

_MOST_ROWS = 1000  # of a batch
_MOST_AT_ONCE = 2**27  # bytes of pages and dictionaries that are in memory together
_MOST_OF_A_BATCH = 2**24  # bytes
_LONGEST_VALUE = 2**16  # bytes; a key has 1024 at most
_BUFFER = 2**16  # bytes of a column chunk that are read at once
_LONGEST_HEADER = 2**16  # bytes of a page header
_MOST_FOOTER_ITEMS = 2**16  # elements of one list in a footer

# Fields of PageHeader and its parts, and values of its enumerations, as numbered in
# https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_TYPE, _UNPACKED, _PACKED, _DATA_V1, _DATA_V2 = 1, 2, 3, 5, 8
_DICTIONARY_PAGE = 2
_VALUES = 1
_ENCODING = {_DATA_V1: 2, _DATA_V2: 4}
_DELTA_BYTE_ARRAY = 7


@dataclass(frozen=True)
class _Column:
    """What reading a column chunk takes: bytes in memory at once, and the most bytes of a value."""

    at_once: int
    value: float


def parquet_rows(
    data: IO[bytes], name: str, choose: Callable[[pyarrow.Schema], Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, one at a time.

    Args:
        data: the file, seekable.
        name: of the file, in messages.
        choose: returns the names of the columns to read; each a text, number, time or truth value.

    Raises:
        UsageError: a column has another type, or the file cannot be read in bounded memory.
        pyarrow.ArrowException, OSError: it is no readable Parquet file.
    """
    with pyarrow.parquet.ParquetFile(
        data, pre_buffer=False, thrift_container_size_limit=_MOST_FOOTER_ITEMS
    ) as file:
        metadata, schema = file.metadata, file.schema_arrow
        columns = list(choose(schema))
        for column in columns:
            if schema.names.count(column) > 1:
                raise UsageError(f"{name} has two columns with the name {column[:80]!r}")
            if not _is_flat(schema.field(column).type):
                kind = str(schema.field(column).type)
                raise UsageError(f"{name}: the column {column} has the type {kind[:80]}")
        groups = range(metadata.num_row_groups)
        _check_footer(data, metadata, columns)
        paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
        indices = [index for index, path in enumerate(paths) if path in columns]
        sizes = [
            _batch_rows(data, metadata.row_group(n), indices, f"{name}: row group {n + 1}")
            for n in groups
        ]
    texts = [column for column in columns if is_text(schema.field(column).type, binary=True)]
    with pyarrow.parquet.ParquetFile(
        data, metadata=metadata, read_dictionary=texts, pre_buffer=False, buffer_size=_BUFFER
    ) as file:
        for number, rows in enumerate(sizes):
            for batch in file.iter_batches(rows, row_groups=[number], columns=columns):
                step = _rows_at_once(batch, f"{name}: row group {number + 1}")
                for start in range(0, batch.num_rows, step):
                    yield from batch.slice(start, step).to_pylist()


class _PageRead(OSError):
    """A page was read."""


class _Footer:
    """A Parquet file whose footer alone can be read."""

    closed = False

    def __init__(self, data: IO[bytes]) -> None:
        self._data = data
        data.seek(-8, os.SEEK_END)
        self._begin = data.tell() - int.from_bytes(data.read(4), "little")

    def read(self, size: int = -1) -> bytes:
        """Read bytes of the footer; _PageRead before it."""
        if self._data.tell() < self._begin:
            raise _PageRead
        return self._data.read(size)

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        return self._data.seek(at, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._data.tell()


def _check_footer(
    data: IO[bytes], metadata: pyarrow.parquet.FileMetaData, columns: Sequence[str]
) -> None:
    """Have Arrow check what the footer says of the columns; for its errors see `parquet_rows`.

    Where Arrow's readers raise an exception, `RowGroupMetaData.column` aborts the process (Arrow
    26). A reader checks all column chunks before it reads the first page.
    """
    footer: Any = _Footer(data)
    with pyarrow.parquet.ParquetFile(
        footer, metadata=metadata, pre_buffer=False, buffer_size=_BUFFER
    ) as file:
        for number in range(metadata.num_row_groups):
            with suppress(_PageRead):
                next(file.iter_batches(1, row_groups=[number], columns=list(columns)), None)


def is_text(kind: pyarrow.DataType, *, binary: bool = False) -> bool:
    """Return whether a column's type is text, or bytes where `binary` is set."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return True
    return binary and (types.is_binary(kind) or types.is_large_binary(kind))


def _is_flat(kind: pyarrow.DataType) -> bool:
    """Return whether values of a type have a known size, or one that is checked."""
    return is_text(kind, binary=True) or pyarrow.types.is_primitive(kind) or kind == pyarrow.null()


def _batch_rows(
    data: IO[bytes], group: pyarrow.parquet.RowGroupMetaData, indices: Sequence[int], name: str
) -> int:
    """Return how many rows of a row group fit into a batch.

    Raises:
        UsageError: not even one page of each column fits into memory, or a page is unreadable.
    """
    read = [_column(data, group.column(index), name) for index in indices]
    at_once = sum(column.at_once for column in read)
    if at_once > _MOST_AT_ONCE:
        raise UsageError(
            f"{name} takes {at_once} bytes of memory, and {_MOST_AT_ONCE} are the limit: write it"
            " with smaller pages or row groups"
        )
    row = sum(column.value for column in read)
    return max(1, min(_MOST_ROWS, int(_MOST_OF_A_BATCH / row))) if row else _MOST_ROWS


def _column(data: IO[bytes], chunk: pyarrow.parquet.ColumnChunkMetaData, name: str) -> _Column:
    dictionary = page = 0
    value = 0.0
    for header in _headers(data, chunk, f"{name}: {chunk.path_in_schema}"):
        if header[_TYPE] == _DICTIONARY_PAGE:
            dictionary = max(dictionary, header[_UNPACKED])
            continue
        page = max(page, header[_UNPACKED] + header[_PACKED])
        for kind, encoding in _ENCODING.items():
            said = header.get(kind, {})
            # One value that is repeated takes no bytes, and as many as it has when it is decoded.
            if said.get(encoding) == _DELTA_BYTE_ARRAY:
                raise UsageError(
                    f"{name}: {chunk.path_in_schema} has the encoding DELTA_BYTE_ARRAY, which may"
                    " unpack without bound: write it with a dictionary or PLAIN"
                )
            if said.get(_VALUES, 0) > 0:
                value = max(value, header[_UNPACKED] / said[_VALUES])
    return _Column(dictionary + page, value)


def _headers(
    data: IO[bytes], chunk: pyarrow.parquet.ColumnChunkMetaData, name: str
) -> Iterator[dict[int, Any]]:
    """Yield the page headers of a column chunk, as Thrift structures."""
    at = chunk.data_page_offset
    if chunk.dictionary_page_offset and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = at + chunk.total_compressed_size
    while at < end:
        try:
            data.seek(at)
            header, length = read_struct(data.read(_LONGEST_HEADER))
            sizes = [_integer(header, number) for number in (_TYPE, _UNPACKED, _PACKED)]
            for part in _ENCODING.keys() & header.keys():
                _integer(header[part], _VALUES)
                _integer(header[part], _ENCODING[part])
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{name} has an unreadable page at byte {at}: {error}") from None
        if min(sizes) < 0:
            raise UsageError(f"{name} has a page of negative size at byte {at}")
        yield header
        at += length + header[_PACKED]


def _integer(fields: Any, number: int) -> int:
    """Return a field of a Thrift structure; ValueError if it is not there or is no integer."""
    value = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(value, int):
        raise ValueError(f"its field {number} is no integer")
    return value


def _rows_at_once(batch: pyarrow.RecordBatch, name: str) -> int:
    """Return how many rows of a batch fit into memory, with each text in each row.

    Raises:
        UsageError: a text is too long.
    """
    row = 1
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not pyarrow.types.is_dictionary(column.type):
            continue
        texts: Any = column  # whose type the stubs do not follow
        lengths: Any = pyarrow.compute.binary_length(texts.dictionary)
        longest: int = pyarrow.compute.max(lengths).as_py() or 0
        if longest > _LONGEST_VALUE:
            raise UsageError(
                f"{name} has a value longer than {_LONGEST_VALUE} bytes in {field.name}"
            )
        row += longest
    return max(1, _MOST_OF_A_BATCH // row)
