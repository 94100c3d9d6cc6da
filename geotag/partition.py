"""`geotag partition`: build geo-cells from a table of coordinates, and print a file's tokens."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from geotag.output import console, errors
from triton_models import published
from triton_models.distance import Floats
from triton_models.geocells import LEVELS, write_tables
from triton_models.partitioning import BuildReport, Limits, Small, build_hierarchy
from workers.errors import UsageError

LONGITUDE = ("longitude", "lon", "lng", "long")
LATITUDE = ("latitude", "lat")
"""What the columns may be called; upper and lower case are the same."""

_CHUNK = 1 << 16
_NAMED = 10


@dataclass
class BadRows:
    """Rows whose coordinates cannot be used: how many, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)
    """Line numbers in a CSV (the header is line 1), row numbers from 1 in Parquet."""

    def note(self, coordinates: Floats, numbers: Sequence[int]) -> None:
        """Find the bad ones among coordinates [k, 2] that stand in these lines or rows."""
        # Comparisons with NaN are false, so NaN is bad too.
        bad = ~(np.abs(coordinates) <= (180, 90)).all(axis=1)
        self.count += int(bad.sum())
        missing = _NAMED - len(self.first)
        self.first += [numbers[k] for k in np.flatnonzero(bad)[:missing].tolist()]


def build(
    coordinates: Path,
    out: Path,
    *,
    coarse_max: int = 5000,
    middle_max: int = 2000,
    fine_max: int = 1000,
    min_count: int = 50,
    max_level: int = 30,
    small: Small = "drop",
    longitude_column: str | None = None,
    latitude_column: str | None = None,
) -> None:
    """Build the three partitions of a table and write `partitions.parquet` and `cells.parquet`.

    The defaults are the published limits. The table is read once, in chunks; what is kept is 8
    bytes a row.

    Args:
        coordinates: CSV with a header, or Parquet; degrees, WGS 84.
        out: a folder, made where it is missing.
        coarse_max: a coarse cell is split while it holds more photographs.
        middle_max: the same for a middle cell.
        fine_max: the same for a fine cell.
        min_count: a cell of fewer photographs has no class.
        max_level: no cell is split beyond this S2 level.
        small: `drop` the photographs of such a cell, or `merge` them into the nearest one.
        longitude_column: its name; found among LONGITUDE where it is not given.
        latitude_column: its name; found among LATITUDE where it is not given.

    Raises:
        UsageError: the table cannot be read, or the limits leave no cell.
    """
    if not 0 <= max_level <= 30:
        raise UsageError(f"--max-level is an S2 level, 0 to 30; got {max_level}")
    if small not in ("drop", "merge"):
        raise UsageError(f"small cells are dropped or merged (drop, merge); got {small}")
    bad = BadRows()
    chunks = _read(coordinates, longitude_column, latitude_column, bad)
    try:
        hierarchy, reports = build_hierarchy(
            chunks,
            coarse=Limits(min_count, coarse_max),
            middle=Limits(min_count, middle_max),
            fine=Limits(min_count, fine_max),
            max_level=max_level,
            small=small,
        )
    except ValueError as error:
        raise UsageError(f"{coordinates}: {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    write_tables(hierarchy, out)
    console.print(_table(reports, small))
    _say_bad(coordinates, bad)
    errors.print(f"written: {out}/partitions.parquet, {out}/cells.parquet", highlight=False)


def _table(reports: Sequence[BuildReport], small: Small) -> Table:
    lost = "dropped" if small == "drop" else "merged"
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("partition")
    names = ("cells", "photographs", f"small cells {lost}", f"photographs {lost}", "above maximum")
    for name in names:
        table.add_column(name, justify="right")
    for r in reports:
        used = r.coordinates - r.invalid - (r.small_photographs if small == "drop" else 0)
        counts = (r.cells, used, r.small_cells, r.small_photographs, r.oversized_cells)
        table.add_row(r.name, *(f"{count:,}" for count in counts))
    return table


def _say_bad(path: Path, bad: BadRows) -> None:
    if bad.count:
        unit = "row" if _is_parquet(path) else "line"
        named = ", ".join(map(str, bad.first)) + (" …" if bad.count > len(bad.first) else "")
        errors.print(
            f"left out: {bad.count:,} rows whose coordinates are missing, no numbers or out of"
            f" range ({unit} {named})",
            highlight=False,
        )


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _read(
    path: Path, longitude: str | None, latitude: str | None, bad: BadRows
) -> Iterator[Floats]:
    """Chunks of longitude and latitude, [k, 2]; what is no number is NaN."""
    try:
        if _is_parquet(path):
            yield from _read_parquet(path, longitude, latitude, bad)
        else:
            yield from _read_csv(path, longitude, latitude, bad)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
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
            # ArrowInvalid where a column holds text that is no number.
            pair = [batch.column(c).cast(pa.float64()).to_numpy(False) for c in columns]
            chunk = np.stack(pair, axis=1)
            bad.note(chunk, range(row, row + len(chunk)))
            row += len(chunk)
            yield chunk


def _column(path: Path, there: Sequence[str], given: str | None, names: Sequence[str]) -> str:
    """The column to read: the one given, or the only one with one of the names."""
    found = [c for c in there if (c == given if given else c.strip().casefold() in names)]
    if len(found) == 1:
        return found[0]
    wanted = given or " or ".join(names)
    option = f"--{names[0]}-column"
    if found:
        raise UsageError(f"{path}: several columns are {wanted}: {', '.join(found)}; give {option}")
    raise UsageError(f"{path}: no column {wanted}; it has {', '.join(there)}; give {option}")


def print_tokens(path: Path, partition: str | None = None) -> None:
    """Print the S2 tokens of a partition file, one a line in the file's order.

    The repairs of a published CSV go to standard error. Of our Parquet `partition` chooses coarse,
    middle or fine; without it all three are printed in the file's order.

    Raises:
        UsageError: it is no such file, or its tokens cannot be repaired with certainty.
    """
    found = _parquet_tokens(path, partition) if _is_parquet(path) else _published_tokens(path)
    for token in found:
        print(token)


def _published_tokens(path: Path) -> Sequence[str]:
    try:
        loaded, repairs = published.load(path)
    except (published.PartitionFileError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(str(error)) from error
    for r in repairs:
        errors.print(f"line {r.line}: {r.written} is {r.token}", highlight=False)
    alone = sum(r.choices == 1 for r in repairs)
    errors.print(
        f"{len(repairs):,} of {len(loaded):,} tokens repaired: {alone:,} by their mean position"
        f" alone, {len(repairs) - alone:,} by their neighbours too",
        highlight=False,
    )
    return loaded.tokens


def _parquet_tokens(path: Path, partition: str | None) -> Sequence[str]:
    if partition is not None and partition not in LEVELS:
        raise UsageError(f"no partition {partition}: {', '.join(LEVELS)}")
    filters = [("partition", "=", partition)] if partition else None
    try:
        tokens = pq.read_table(path, columns=["token"], filters=filters)["token"]
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise UsageError(f"{path}: no column of tokens can be read: {error}") from error
    return [str(token) for token in tokens.to_pylist()]
