"""`geotag partition`: build geo-cells from a table of coordinates, and print a file's tokens."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geotag.output import errors
from geotag.partitions.coordinates import BadRows, is_parquet, read_coordinates
from geotag.tables import Column, Row, number_column, print_table
from triton_models.cells import published
from triton_models.cells.geocells import LEVELS, write_tables
from triton_models.cells.partitioning import BuildReport, Limits, Small, build_hierarchy
from workers.errors import UsageError


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

    The defaults are the published limits. The table is read once, in chunks, and takes 8 bytes of
    memory a row.

    Args:
        coordinates: CSV with a header, or Parquet; degrees, WGS 84.
        out: a folder, created if it is missing.
        coarse_max: a coarse cell with more photographs is split.
        middle_max: the same for a middle cell.
        fine_max: the same for a fine cell.
        min_count: a cell with fewer photographs is small, and has no class.
        max_level: no cell is split beyond this S2 level.
        small: `drop` the photographs of a small cell, or `merge` them into the nearest cell.
        longitude_column: its name; None means lon, longitude, lng or long.
        latitude_column: its name; None means lat or latitude.

    Raises:
        UsageError: the table cannot be read, or the limits leave no cell.
    """
    if not 0 <= max_level <= 30:
        raise UsageError(f"--max-level is an S2 level, 0 to 30; got {max_level}")
    if small not in ("drop", "merge"):
        raise UsageError(f"small cells are dropped or merged (drop, merge); got {small}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is no folder: choose another --out")
    bad = BadRows()
    chunks = read_coordinates(coordinates, longitude_column, latitude_column, bad)
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
    print_reports(reports, small)
    _say_bad(coordinates, bad)
    _say(f"written: {out / 'partitions.parquet'}, {out / 'cells.parquet'}")


def print_reports(reports: Sequence[BuildReport], small: Small) -> None:
    """Print one line for each partition; `small` is what became of its small cells."""
    lost = "dropped" if small == "drop" else "merged"
    names = ("cells", "photographs", "small cells", f"{lost} photographs", "above maximum")
    rows: list[Row] = []
    for r in reports:
        used = r.coordinates - r.invalid - (r.small_photographs if small == "drop" else 0)
        counts = (r.cells, used, r.small_cells, r.small_photographs, r.oversized_cells)
        rows.append((r.name, *(f"{count:,}" for count in counts)))
    print_table((Column("partition"), *map(number_column, names)), rows)


def _say_bad(path: Path, bad: BadRows) -> None:
    if bad.count:
        unit = "row" if is_parquet(path) else "line"
        named = ", ".join(map(str, bad.first)) + (" …" if bad.count > len(bad.first) else "")
        _say(
            f"left out: {bad.count:,} rows with coordinates that are missing, no numbers or out of"
            f" range ({unit} {named})"
        )


def _say(line: str) -> None:
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def print_tokens(path: Path, partition: str | None = None) -> None:
    """Print the S2 tokens of a partition file, one a line in the file's order.

    The repairs of a published CSV are printed to standard error.

    Args:
        path: a published CSV, or a Parquet table of `geotag partition build`.
        partition: of a Parquet table: coarse, middle or fine; None is all three.

    Raises:
        UsageError: the file is neither, or its tokens cannot be repaired with certainty.
    """
    found = _parquet_tokens(path, partition) if is_parquet(path) else _published_tokens(path)
    for token in found:
        print(token)


def _published_tokens(path: Path) -> Sequence[str]:
    try:
        loaded, repairs = published.load(path)
    except (published.PartitionFileError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(str(error)) from error
    for r in repairs:
        _say(f"line {r.line}: {r.written} is {r.token}")
    alone = sum(r.choices == 1 for r in repairs)
    _say(
        f"{len(repairs):,} of {len(loaded):,} tokens repaired: {alone:,} by their mean position"
        f" alone, {len(repairs) - alone:,} by their neighbours too"
    )
    return loaded.tokens


def _parquet_tokens(path: Path, partition: str | None) -> Sequence[str]:
    if partition is not None and partition not in LEVELS:
        raise UsageError(f"no partition {partition}: {', '.join(LEVELS)}")
    chosen = pc.field("partition") == partition if partition else None
    try:
        tokens = pq.read_table(path, columns=["token"], filters=chosen)["token"]
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise UsageError(f"{path}: no column of tokens can be read: {error}") from error
    return [str(token) for token in tokens.to_pylist()]
