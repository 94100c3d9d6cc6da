"""Read the S2 partitions published with ISNs and TransLocator, and repair their tokens.

A spreadsheet program rewrote the S2 tokens that look like numbers in the published CSV files:
``47e63`` became ``4.7E+064``, ``00994`` became ``994``, ``471e4`` became ``4710000``. Three rules
that every partition obeys restore them:

1. A cell contains the mean position of its photographs. So the token is one of the 31 cells around
   that position, and one that the spreadsheet would have written as the file has it.
2. Cells do not overlap. So no cell contains another row's mean position.
3. A cell within the maximum is never split. So the coarsest of the remaining cells is right.

A file in which these rules leave more than one choice is refused.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from s2sphere import CellId

from triton_models.cells import s2cells
from triton_models.cells.geocells import Hierarchy, Partition, overlaps
from triton_models.cells.s2cells import Floats, Ids

COLUMNS = ("class_label", "hex_id", "imgs_per_cell", "latitude_mean", "longitude_mean")

_NUMBER = re.compile(r"\d+(\.\d+)?([eE]\+?\d+)?")


class PartitionFileError(ValueError):
    """The file is not a partition, or its tokens cannot be repaired with certainty."""


@dataclass(frozen=True)
class Repair:
    """One repaired token: its line in the file, the text there and the token restored from it."""

    line: int
    written: str
    token: str
    choices: int
    """How many cells around the mean position the spreadsheet would have written that way."""


@dataclass(frozen=True, eq=False)
class _Rows:
    path: Path
    written: Sequence[str]
    longitude: Floats
    latitude: Floats
    photographs: Sequence[int]


def load(path: Path, name: str | None = None) -> tuple[Partition, tuple[Repair, ...]]:
    """Read a published partition file; return the partition and the tokens repaired in it.

    Classes keep the order of ``class_label``, which must be 0 to n - 1. The spread is unknown.

    Raises PartitionFileError with the line numbers where a value is missing or out of range, where
    no cell or more than one fits a token, or where cells overlap or miss their mean position.
    """
    rows = _read(path)
    leaves = s2cells.leaf_ids(rows.longitude, rows.latitude)
    choices = [_choices(w, CellId(k)) for w, k in zip(rows.written, leaves.tolist(), strict=True)]
    _refuse(rows, [k for k, c in enumerate(choices) if not len(c)], "no cell at the mean position")
    ids = _settle(rows, choices, np.sort(leaves))
    overlapping = sorted({k for pair in overlaps(ids) for k in pair})
    _refuse(rows, overlapping, "cells overlap")
    tokens = s2cells.tokens_of(ids)
    partition = Partition(
        name=name or path.stem,
        tokens=tuple(tokens),
        longitude=rows.longitude,
        latitude=rows.latitude,
        photographs=np.array(rows.photographs, np.int64),
        spread_km=np.full(len(tokens), np.nan),
    )
    return partition, tuple(
        Repair(_line(k), written, token, len(choice))
        for k, (written, token, choice) in enumerate(
            zip(rows.written, tokens, choices, strict=True)
        )
        if written != token
    )


def load_hierarchy(directory: Path) -> tuple[Hierarchy, tuple[tuple[Repair, ...], ...]]:
    """Read the three published files: coarse_50_5000, middle_50_2000 and fine_50_1000."""
    names = ("coarse_50_5000", "middle_50_2000", "fine_50_1000")
    loaded = [load(directory / f"{name}.csv") for name in names]
    (coarse, a), (middle, b), (fine, c) = loaded
    return Hierarchy(coarse, middle, fine), (a, b, c)


def _read(path: Path) -> _Rows:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise PartitionFileError(f"{path}: no column {', '.join(sorted(missing))}")
        records = list(reader)
    try:
        rows = _Rows(
            path=path,
            written=[r["hex_id"].strip() for r in records],
            longitude=np.array([float(r["longitude_mean"]) for r in records], np.float64),
            latitude=np.array([float(r["latitude_mean"]) for r in records], np.float64),
            photographs=[int(r["imgs_per_cell"]) for r in records],
        )
        labels = [int(r["class_label"]) for r in records]
    except (TypeError, ValueError) as error:
        raise PartitionFileError(f"{path}: {error}") from error
    if labels != list(range(len(labels))):
        raise PartitionFileError(f"{path}: class_label is not 0 to {len(labels) - 1} in order")
    valid = (np.abs(rows.longitude) <= 180) & (np.abs(rows.latitude) <= 90)
    _refuse(rows, np.flatnonzero(~valid).tolist(), "mean position out of range")
    return rows


def as_spreadsheet(token: str) -> Decimal | str:
    """Return the value that a spreadsheet reads from a text: a number where it looks like one."""
    return Decimal(token) if _NUMBER.fullmatch(token) else token


def _choices(written: str, leaf: CellId) -> Ids:
    """Return the ancestors of a leaf cell that the file may mean by a text, coarsest first."""
    value = as_spreadsheet(written)
    if isinstance(value, str):  # not rewritten: the text is the token
        cell = s2cells.cell_of(written)
        around = [cell] if cell and cell.contains(leaf) else []
    else:
        around = [leaf.parent(level) for level in range(CellId.MAX_LEVEL + 1)]
    fits = [cell.id() for cell in around if as_spreadsheet(cell.to_token()) == value]
    return np.array(fits, np.uint64)


def _settle(rows: _Rows, choices: list[Ids], means: Ids) -> Ids:
    """Choose one cell for each row by rules 2 and 3; ``means``: sorted leaf ids of the means."""
    certain = np.array([c[0] for c in choices if len(c) == 1], np.uint64)
    first, last = (np.sort(ends) for ends in s2cells.range_of(certain))
    settled = np.array([c[0] for c in choices], np.uint64)
    doubtful: list[int] = []
    for k, cells in enumerate(choices):
        if len(cells) == 1:
            continue
        low, high = s2cells.range_of(cells)
        alone = np.searchsorted(means, high, "right") - np.searchsorted(means, low) == 1
        # A range overlaps no certain one if as many of those end before it as start before its end.
        clear = np.searchsorted(last, low) == np.searchsorted(first, high, "right")
        left = cells[alone & clear]
        if not len(left):
            doubtful.append(k)
        else:
            settled[k] = left[0]
    _refuse(rows, doubtful, "every cell at the mean position overlaps another row's")
    return settled


def _line(row: int) -> int:
    return row + 2  # counted from one, after the header


def _refuse(rows: _Rows, bad: list[int], why: str) -> None:
    if bad:
        named = ", ".join(f"line {_line(k)} ({rows.written[k]})" for k in bad[:10])
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise PartitionFileError(f"{rows.path}: {why}: {named}{more}")
