"""Read CSV tables as other projects write them.

This module finds the columns, and the lines and numbers that cannot be used. Each of those becomes
a `Remark`; nothing is dropped silently.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath

from triton_models.evaluation.spreadsheet import unescape_formula

ID = ("img_id", "file", "filename", "key")
LONGITUDE = ("lon", "longitude", "lng", "long")
LATITUDE = ("lat", "latitude")
"""The names that a column may have; upper and lower case are the same."""

_BLANK = {"", "nan", "none", "null", "na"}


class EvaluationError(ValueError):
    """The input cannot be evaluated; the message says why, and where."""


class Effect(StrEnum):
    """What a remark means for the scores."""

    LEFT_OUT = "left_out"
    MISS = "miss"
    """The photograph is counted as a miss."""
    USED = "used"


@dataclass(frozen=True)
class Remark:
    """An irregularity in a file: its line, the photograph, and the reason."""

    source: str
    line: int | None
    """Line in the file, the header being line 1; None without a file."""
    id: str | None
    reason: str
    """Stable word, such as ``out_of_range`` (docs/evaluation.md)."""
    detail: str = ""
    effect: Effect = Effect.LEFT_OUT


@dataclass(frozen=True)
class Row:
    """A row of data: its line, and its cells by lower-case column name."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file, and remarks on its other lines."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]

    def column(self, names: Sequence[str]) -> str:
        """Return the one column that has one of these names.

        Raises:
            EvaluationError: none or several have.
        """
        found = self.optional(names)
        if found is None:
            raise EvaluationError(
                f"{self.source}: no column {' or '.join(names)}; it has {', '.join(self.columns)}"
            )
        return found

    def optional(self, names: Sequence[str]) -> str | None:
        """Return the one column that has one of these names, or None.

        Raises:
            EvaluationError: several have, so the meant one is unknown.
        """
        found = [column for column in self.columns if column in names]
        if len(found) > 1:
            raise EvaluationError(f"{self.source}: which column is meant, {' or '.join(found)}?")
        return found[0] if found else None


def read_table(path: Path) -> Table:
    """Read a CSV file with a header (UTF-8, comma).

    Blank lines, repetitions of the header and rows of more cells than the header become remarks.
    The table ends where another header begins; every line from there on becomes a remark.

    Raises EvaluationError if the file cannot be read or has no header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _table(path.name, csv.reader(file))
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{path}: no CSV in UTF-8: {error}") from error


Line = tuple[int, list[str]]
"""A line's number, as an editor counts, and its cells."""


def _table(source: str, reader: Iterator[list[str]]) -> Table:
    columns: tuple[str, ...] = ()
    rows: list[Row] = []
    remarks: list[Remark] = []
    shape = _Shape()
    # csv's own line number counts line breaks inside quotes, as an editor does.
    lines: list[Line] = [(reader.line_num, cells) for cells in reader]  # type: ignore[attr-defined]
    for index, (line, cells) in enumerate(lines):
        names = tuple(cell.strip().casefold() for cell in cells)
        if not any(names):
            remarks.append(Remark(source, line, None, "blank_line"))
        elif not columns:
            columns = names
        elif names == columns:
            remarks.append(Remark(source, line, None, "repeated_header"))
        elif shape.ends_at(_filled(cells), _next_filled(lines, index), len(columns)):
            remarks += _other_table(source, lines[index:])
            break
        elif any(names[len(columns) :]):
            detail = f"{len(cells)} cells under {len(columns)} columns"
            remarks.append(Remark(source, line, cells[0], "too_many_cells", detail))
        else:
            padded = cells + [""] * (len(columns) - len(cells))
            named = zip(columns, padded, strict=False)
            rows.append(Row(line, {name: _cell(name, text) for name, text in named}))
            shape.add(_filled(cells))
    if not columns:
        raise EvaluationError(f"{source}: empty, not even a header")
    return Table(source, columns, tuple(rows), tuple(remarks))


def _cell(name: str, text: str) -> str:
    # Our own results have a column `key`. A key may begin or end with spaces, or be escaped.
    return unescape_formula(text) if name == "key" else text.strip()


def _filled(cells: Sequence[str]) -> list[str]:
    """Return the cells without blanks at the end."""
    texts = [cell.strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _next_filled(lines: Sequence[Line], index: int) -> list[str]:
    """Return the cells of the next line that is not blank; none at the end of the file."""
    following = (_filled(lines[k][1]) for k in range(index + 1, len(lines)))
    return next(filter(None, following), [])


def _other_table(source: str, lines: Sequence[Line]) -> Iterator[Remark]:
    for line, cells in lines:
        if _filled(cells):
            yield Remark(source, line, None, "other_table", ", ".join(_filled(cells))[:80])
        else:
            yield Remark(source, line, None, "blank_line")


class _Shape:
    """Which columns of a table have had numbers only, and which words only.

    Of columns with words it keeps the file name endings, `""` for words without one.
    """

    def __init__(self) -> None:
        self._numbers: set[int] = set()
        self._words: set[int] = set()
        self._endings: dict[int, set[str]] = {}

    def add(self, cells: Sequence[str]) -> None:
        """Take a row into account."""
        for k, cell in enumerate(cells):
            if is_blank(cell):
                continue
            if number(cell) is not None:
                self._numbers.add(k)
                continue
            self._words.add(k)
            self._endings.setdefault(k, set()).add(_ending(cell))

    def ends_at(self, cells: Sequence[str], following: Sequence[str], width: int) -> bool:
        """Return whether a line is the header of another table.

        A header is a line of distinct words, also in the columns that have had numbers only. The
        line after it has the cells of that header and does not continue this table: a single row
        of words between rows is a bad row. The last line of a file is a header unless it may be a
        bad row.

        Args:
            cells: of the line, without blanks at the end.
            following: the cells of the next line; none if this is the last line.
            width: how many columns this table has.
        """
        numbers = self._numbers - self._words
        words = self._words - self._numbers
        named = len(cells) > 1 and len({cell.casefold() for cell in cells}) == len(cells)
        if not named or any(is_blank(c) or number(c) is not None for c in cells):
            return False
        if not any(k < len(cells) for k in numbers):
            return False
        if not following:
            return not self._may_be_row(cells)
        if len(following) != len(cells):
            return False
        if len(cells) != width:
            return True
        kinds = [(k, number(cell) is not None) for k, cell in enumerate(following)]
        return any(is_number and k in words for k, is_number in kinds)

    def _may_be_row(self, cells: Sequence[str]) -> bool:
        """Return whether a line's words can continue the columns that have had words.

        File names are followed by file names of the same kind: `metric` does not follow `a.jpg`.
        """
        continued = [k for k in self._words if k < len(cells)]
        return bool(continued) and all(_ending(cells[k]) in self._endings[k] for k in continued)


def _ending(word: str) -> str:
    """Return the file name ending of a word: `.jpg`, or `""`."""
    return PurePath(word).suffix.casefold()


def is_blank(text: str) -> bool:
    """Return whether a cell is empty, or a word that programs write for an empty cell."""
    return text.casefold() in _BLANK


def number(text: str) -> float | None:
    """Return the finite number in a cell, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Problem:
    """Why two cells are no position: a stable word, and the cells."""

    reason: str
    detail: str


def position(longitude: str, latitude: str) -> tuple[float, float] | Problem:
    """Return longitude and latitude in degrees, or why they are no position."""
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
