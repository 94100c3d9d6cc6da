"""The S2 partitions published with ISNs and TransLocator, and the repair of their tokens.

A spreadsheet has been through the published CSVs: an S2 token that looks like a number was
rewritten as one (``47e63`` became ``4.7E+064``, ``00994`` became ``994``, ``471e4`` became
``4710000``). What is lost comes back from what every partition obeys:

1. a cell contains the mean position of its photographs, so a token is one of the 31 cells around
   that position, and among these one that the spreadsheet would have written as what is there;
2. cells do not overlap, so no cell contains another row's mean position;
3. a cell within the maximum is never split, so of what remains the coarsest cell is right.

A file in which these leave any doubt is refused.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np

from triton_models.cells import s2cells
from triton_models.cells.distance import Floats
from triton_models.cells.geocells import Hierarchy, Partition, overlaps
from triton_models.cells.s2cells import Ids

COLUMNS = ("class_label", "hex_id", "imgs_per_cell", "latitude_mean", "longitude_mean")

_NUMBER = re.compile(r"\d+(\.\d+)?([eE]\+?\d+)?")


class PartitionFileError(ValueError):
    """The file is not a partition, or its tokens cannot be repaired with certainty."""


@dataclass(frozen=True)
class Repair:
    """One token that was rewritten: its line in the file, what is there and what it was."""

    line: int
    written: str
    token: str
    choices: int
    """How many cells around the mean position the spreadsheet would have written so."""


@dataclass(frozen=True, eq=False)
class _Rows:
    path: Path
    written: Sequence[str]
    longitude: Floats
    latitude: Floats
    photographs: Sequence[int]


def load(path: Path, name: str | None = None) -> tuple[Partition, tuple[Repair, ...]]:
    """Read a published partition file, repair its tokens, and say which.

    Classes keep the order of ``class_label``, which must be 0 to n - 1. The spread is unknown.

    Raises PartitionFileError, naming the lines, where a value is missing or out of range, where no
    cell fits a token or more than one does, or where cells overlap or miss their mean position.
    """
    rows = _read(path)
    leaves = s2cells.leaf_ids(rows.longitude, rows.latitude)
    choices = [_choices(w, leaf) for w, leaf in zip(rows.written, leaves, strict=True)]
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
    """The three files as published: coarse_50_5000, middle_50_2000 and fine_50_1000."""
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
    """What a spreadsheet takes a text for: a number where it looks like one."""
    return Decimal(token) if _NUMBER.fullmatch(token) else token


def _choices(written: str, leaf: np.uint64) -> Ids:
    """The cells that hold the leaf cell and may have been written so, coarsest first."""
    around = s2cells.ancestors(np.full(s2cells.MAX_LEVEL + 1, leaf), np.arange(31))
    value = as_spreadsheet(written)
    fits = [as_spreadsheet(token) == value for token in s2cells.tokens_of(around)]
    return around[fits]


def _settle(rows: _Rows, choices: list[Ids], means: Ids) -> Ids:
    """One cell for each row, by the rules 2 and 3; ``means``: leaf ids of the means, sorted."""
    certain = np.array([c[0] for c in choices if len(c) == 1], np.uint64)
    first, last = (np.sort(ends) for ends in s2cells.range_of(certain))
    settled = np.array([c[0] for c in choices], np.uint64)
    doubtful: list[int] = []
    for k, cells in enumerate(choices):
        if len(cells) == 1:
            continue
        low, high = s2cells.range_of(cells)
        alone = np.searchsorted(means, high, "right") - np.searchsorted(means, low) == 1
        # A range overlaps none of the certain ones where as many end before it as start before it.
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
