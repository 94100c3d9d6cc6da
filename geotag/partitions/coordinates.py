"""Read coordinates of photographs in chunks from a CSV or Parquet table of any length."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from triton_models.cells.distance import Floats
from triton_models.evaluation.tables import LATITUDE, LONGITUDE
from workers.errors import UsageError

_CHUNK = 1 << 16
_NAMED = 10


@dataclass
class BadRows:
    """The number of rows with unusable coordinates, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)
    """Line numbers in a CSV (the header is line 1), row numbers from 1 in Parquet."""

    def note(self, coordinates: Floats, numbers: Sequence[int]) -> None:
        """Count the unusable ones of coordinates [k, 2]; `numbers` are their lines or rows."""
        # Comparisons with NaN are false, so NaN is bad too.
        bad = ~(np.abs(coordinates) <= (180, 90)).all(axis=1)
        self.count += int(bad.sum())
        missing = _NAMED - len(self.first)
        self.first += [numbers[k] for k in np.flatnonzero(bad)[:missing].tolist()]


def is_parquet(path: Path) -> bool:
    """Return whether a file is Parquet, by its name."""
    return path.suffix.lower() == ".parquet"


def read_coordinates(
    path: Path, longitude: str | None, latitude: str | None, bad: BadRows
) -> Iterator[Floats]:
    """Yield longitude and latitude in degrees, in chunks [k, 2]. Cells without a number are NaN.

    Args:
        path: CSV with a header (UTF-8), or Parquet.
        longitude: the column's name; None means one of tables.LONGITUDE.
        latitude: the column's name; None means one of tables.LATITUDE.
        bad: notes the rows whose coordinates are missing or out of range.

    Raises:
        UsageError: the file or a column cannot be read.
    """
    try:
        if is_parquet(path):
            yield from _read_parquet(path, longitude, latitude, bad)
        else:
            yield from _read_csv(path, longitude, latitude, bad)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _read_csv(
    path: Path, longitude: str | None, latitude: str | None, bad: BadRows
) -> Iterator[Floats]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        lon = header.index(_column(path, header, longitude, LONGITUDE))
        lat = header.index(_column(path, header, latitude, LATITUDE))
        while True:
            flat, numbers = array("d"), array("q")
            for cells in islice(lines, _CHUNK):
                if cells:
                    flat.extend(_pair(cells, lon, lat))
                    numbers.append(lines.line_num)
            if not flat:
                return
            chunk = np.frombuffer(flat).reshape(-1, 2)
            bad.note(chunk, numbers)
            yield chunk


_NOTHING = (float("nan"), float("nan"))


def _pair(cells: list[str], lon: int, lat: int) -> tuple[float, float]:
    try:
        return float(cells[lon]), float(cells[lat])
    except (ValueError, IndexError):
        return _NOTHING


def _read_parquet(
    path: Path, longitude: str | None, latitude: str | None, bad: BadRows
) -> Iterator[Floats]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        columns = [
            _column(path, names, longitude, LONGITUDE),
            _column(path, names, latitude, LATITUDE),
        ]
        row = 1
        for batch in file.iter_batches(batch_size=_CHUNK, columns=columns):
            # Raises ArrowInvalid if a column has text that is no number.
            pair = [batch.column(c).cast(pa.float64()).to_numpy(False) for c in columns]
            chunk = np.stack(pair, axis=1)
            bad.note(chunk, range(row, row + len(chunk)))
            row += len(chunk)
            yield chunk


def _column(path: Path, there: Sequence[str], given: str | None, names: Sequence[str]) -> str:
    """Return the column to read: the given one, or the only one that has one of the names."""
    found = [c for c in there if (c == given if given else c.strip().casefold() in names)]
    if len(found) == 1:
        return found[0]
    wanted = given or " or ".join(names)
    option = "--longitude-column" if names == LONGITUDE else "--latitude-column"
    if found:
        raise UsageError(f"{path}: several columns are {wanted}: {', '.join(found)}; give {option}")
    raise UsageError(f"{path}: no column {wanted}; it has {', '.join(there)}; give {option}")
