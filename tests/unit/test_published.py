"""The published partitions, repair of their damaged tokens, and unrepairable files."""

import csv
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from triton_models.cells import s2cells
from triton_models.cells.distance import from_vectors
from triton_models.cells.geocells import parents
from triton_models.cells.published import (
    COLUMNS,
    PartitionFileError,
    as_spreadsheet,
    load,
    load_hierarchy,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "partitions"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the published partitions are not here (../shared/partitions)"
)

Row = tuple[object, ...]


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def row(label: int, token: str, written: str | None = None) -> Row:
    """Return a row with the cell's centre as mean position, and with this text as token."""
    lon, lat = from_vectors(s2cells.centres(s2cells.ids_of([token])))
    return label, written or token, 100, lat[0], lon[0]


@needs_published
def test_all_three_load() -> None:
    hierarchy, repairs = load_hierarchy(PUBLISHED)
    assert [len(p) for p in hierarchy.partitions] == [3298, 7202, 12893]
    assert sum(map(len, repairs)) == 741
    assert sum(r.choices > 1 for file in repairs for r in file) == 15
    for partition in hierarchy.partitions:
        assert not len(partition.means_outside())
    assert (hierarchy.fine_to_middle >= 0).all()
    assert (hierarchy.fine_to_coarse >= 0).all()
    middle_to_coarse = parents(hierarchy.middle, hierarchy.coarse)
    assert np.array_equal(middle_to_coarse[hierarchy.fine_to_middle], hierarchy.fine_to_coarse)


@needs_published
def test_repaired_tokens_would_be_damaged_the_same_way() -> None:
    _, repairs = load_hierarchy(PUBLISHED)
    for repair in (r for file in repairs for r in file):
        assert as_spreadsheet(repair.token) == Decimal(repair.written)


@pytest.mark.parametrize(
    ("token", "written"),
    [
        ("47e64", "4.7E+065"),
        ("477e9", "477000000000"),
        ("00994", "994"),
        ("471e4", "4710000"),
        ("89c25", "89c25"),
        ("364", "364"),
    ],
)
def test_repair_of_one_token(tmp_path: Path, token: str, written: str) -> None:
    partition, repairs = load(write(tmp_path / "p.csv", [row(0, token, written)]))
    assert partition.tokens == (token,)
    assert [(r.line, r.written, r.token) for r in repairs] == (
        [] if token == written else [(2, written, token)]
    )


def test_repair_takes_the_coarsest_cell_that_no_other_row_contradicts(tmp_path: Path) -> None:
    """47e4 contains 47e04, and a spreadsheet writes both as 470000."""
    damaged = row(0, "47e04", "470000")
    alone, (repair,) = load(write(tmp_path / "a.csv", [damaged]))
    assert alone.tokens == ("47e4",)
    assert repair.choices == 2
    beside, _ = load(write(tmp_path / "b.csv", [damaged, row(1, "47e1c")]))
    assert beside.tokens == ("47e04", "47e1c")
    with pytest.raises(PartitionFileError, match=r"overlaps another row's: line 2 \(470000\)"):
        load(write(tmp_path / "c.csv", [damaged, row(1, "47e041")]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, "89c25", "47e64")], r"no cell at the mean position: line 2 \(47e64\)"),
        ([row(0, "89c25"), row(1, "89c25")], r"cells overlap: line 2 \(89c25\), line 3 \(89c25\)"),
        ([row(0, "89c25"), row(1, "89c")], r"cells overlap"),
        ([row(1, "89c25")], "class_label"),
        ([(0, "89c25", 100, 91, 0)], r"out of range: line 2 \(89c25\)"),
        ([(0, "89c25", 100, "", 0)], "could not convert"),
        ([(0, "89c25", "many", 1, 0)], "many"),
    ],
)
def test_refused_files_name_the_lines(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(PartitionFileError, match=message):
        load(write(tmp_path / "p.csv", rows))


def test_a_file_without_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(PartitionFileError, match="no column class_label"):
        load(path)
