"""Tables as other people write them.

This module knows which columns are meant, which lines are no rows, and which numbers are no
position. What is not used is never dropped silently: it becomes a `Remark`.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ID = ("img_id", "file", "filename", "key")
LONGITUDE = ("lon", "longitude", "lng", "long")
LATITUDE = ("lat", "latitude")
"""The names that a column may have; upper and lower case are the same."""

_BLANK = {"", "nan", "none", "null", "na"}


class EvaluationError(ValueError):
    """What was given cannot be evaluated; the message says why, and where."""


class Effect(StrEnum):
    """What a remark means for the scores."""

    LEFT_OUT = "left_out"
    MISS = "miss"
    """The photograph counts, and as a miss."""
    USED = "used"


@dataclass(frozen=True)
class Remark:
    """Something in a file that is not as it should be: where, which photograph, and what."""

    source: str
    line: int | None
    """Line in the file, the header being line 1; None where there is no file."""
    id: str | None
    reason: str
    """Stable word, such as ``out_of_range`` (docs/evaluation.md)."""
    detail: str = ""
    effect: Effect = Effect.LEFT_OUT


@dataclass(frozen=True)
class Row:
    """A row that may be data: where it is, and its cells by lower-case column name."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file: its rows, and remarks on the lines that are none."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]

    def column(self, names: Sequence[str]) -> str:
        """The one column that is called one of these.

        Raises EvaluationError where none is, or several are.
        """
        found = self.optional(names)
        if found is None:
            raise EvaluationError(
                f"{self.source}: no column {' or '.join(names)}; it has {', '.join(self.columns)}"
            )
        return found

    def optional(self, names: Sequence[str]) -> str | None:
        """The one column that is called one of these, or None.

        Raises EvaluationError where several are: which is meant is not ours to guess.
        """
        found = [column for column in self.columns if column in names]
        if len(found) > 1:
            raise EvaluationError(f"{self.source}: which column is meant, {' or '.join(found)}?")
        return found[0] if found else None


def read_table(path: Path) -> Table:
    """Read a CSV file with a header (UTF-8, comma).

    Blank lines, repetitions of the header and rows of more cells than the header become remarks.

    Raises EvaluationError where the file cannot be read or has no header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _table(path.name, csv.reader(file))
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path}: no CSV in UTF-8: {error}") from error


def _table(source: str, lines: Iterator[list[str]]) -> Table:
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    remarks: list[Remark] = []
    # csv's own line number counts line breaks inside quotes, as an editor does.
    for cells in lines:
        line: int = lines.line_num  # type: ignore[attr-defined]
        names = tuple(cell.strip().casefold() for cell in cells)
        if not any(names):
            remarks.append(Remark(source, line, None, "blank_line"))
        elif not columns:
            columns = names
        elif names == columns:
            remarks.append(Remark(source, line, None, "repeated_header"))
        elif any(names[len(columns) :]):
            detail = f"{len(cells)} cells under {len(columns)} columns"
            remarks.append(Remark(source, line, cells[0], "too_many_cells", detail))
        else:
            padded = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
            rows.append(Row(line, dict(zip(columns, padded, strict=False))))
    if not columns:
        raise EvaluationError(f"{source}: empty, not even a header")
    return Table(source, columns, tuple(rows), tuple(remarks))


def is_blank(text: str) -> bool:
    """Whether a cell says nothing: empty, or one of the words that programs write for that."""
    return text.casefold() in _BLANK


def number(text: str) -> float | None:
    """The finite number in a cell, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Problem:
    """Why two cells are no position: a stable word, and what is there."""

    reason: str
    detail: str


def position(longitude: str, latitude: str) -> tuple[float, float] | Problem:
    """Longitude and latitude in degrees, or what is wrong with them."""
    written = f"longitude {longitude or 'blank'}, latitude {latitude or 'blank'}"
    if is_blank(longitude) or is_blank(latitude):
        return Problem("missing_coordinates", written)
    lon, lat = number(longitude), number(latitude)
    if lon is None or lat is None:
        return Problem("not_a_number", written)
    if abs(lat) > 90:
        swapped = abs(lat) <= 180 and abs(lon) <= 90
        return Problem("swapped" if swapped else "out_of_range", written)
    if abs(lon) > 180:
        return Problem("out_of_range", written)
    return lon, lat
