"""`geotag partition build` and `tokens`."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geotag.partitions import coordinates
from geotag.partitions.coordinates import BadRows, read_coordinates
from geotag.partitions.partition import build, print_tokens
from triton_models.cells.geocells import read_partitions
from workers.errors import UsageError

SHARED = Path(__file__).parents[3] / "shared" / "partitions"
SMALL = {"coarse_max": 60, "middle_max": 30, "fine_max": 15, "min_count": 3}


@pytest.fixture
def points() -> np.ndarray:
    rng = np.random.default_rng(4)
    return np.column_stack([rng.normal(10, 5, 300), rng.normal(50, 5, 300)])


def as_csv(path: Path, points: np.ndarray, header: str = "IMG_ID,LAT,LON") -> Path:
    lines = [f"{k}.jpg,{lat!r},{lon!r}" for k, (lon, lat) in enumerate(points.tolist())]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_csv_and_a_parquet_make_the_same_partitions(
    tmp_path: Path, points: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"longitude": points[:, 0], "latitude": points[:, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    build(as_csv(tmp_path / "a.csv", points), tmp_path / "from_csv", **SMALL)
    build(tmp_path / "a.parquet", tmp_path / "from_parquet", **SMALL)
    one, two = (read_partitions(tmp_path / f / "partitions.parquet") for f in FOLDERS)
    for a, b in zip(one.partitions, two.partitions, strict=True):
        assert a.tokens == b.tokens
        assert a.photographs.tolist() == b.photographs.tolist()
        assert a.photographs.max() <= SMALL[f"{a.name}_max"]
        assert a.photographs.min() >= SMALL["min_count"]
    assert (tmp_path / "from_csv" / "cells.parquet").is_file()
    shown = capsys.readouterr().out
    assert f"{one.fine.photographs.sum()}" in shown


FOLDERS = ("from_csv", "from_parquet")


def test_merging_keeps_every_photograph(tmp_path: Path, points: np.ndarray) -> None:
    build(as_csv(tmp_path / "a.csv", points), tmp_path, small="merge", **SMALL)
    for partition in read_partitions(tmp_path / "partitions.parquet").partitions:
        assert partition.photographs.sum() == len(points)


def test_bad_rows_are_counted_and_the_first_are_named(
    tmp_path: Path, points: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinates, "_CHUNK", 7)
    path = as_csv(tmp_path / "a.csv", points)
    with path.open("a") as file:
        file.write("x,,\nx,91,5\n\nx,5,180.5\nx,north,5\nx,5\nx,5,5\n" + "x,nan,1\n" * 20)
    bad = BadRows()
    rows = np.concatenate(list(read_coordinates(path, None, None, bad)))
    assert len(rows) == 326
    assert bad.count == 25
    # The header is line 1 and 300 rows follow it; line 304 is blank.
    assert bad.first == [302, 303, 305, 306, 307, 309, 310, 311, 312, 313]


def test_nulls_of_a_parquet_are_bad_rows(tmp_path: Path) -> None:
    table = pa.table({"lon": [1.0, None, 2.0], "lat": pa.array([1, 2, 300], pa.int16())})
    pq.write_table(table, tmp_path / "a.parquet")
    bad = BadRows()
    rows = np.concatenate(list(read_coordinates(tmp_path / "a.parquet", None, None, bad)))
    assert rows.shape == (3, 2)
    assert (bad.count, bad.first) == (2, [2, 3])


@pytest.mark.parametrize(
    ("header", "given", "message"),
    [
        ("IMG_ID,Y,X", {}, "no column lon or longitude.*IMG_ID, Y, X; give --longitude-column"),
        ("lon,lat,LON", {}, "several columns.*lon, LON; give --longitude-column"),
        ("IMG_ID,LAT,LON", {"latitude_column": "Y"}, "no column Y"),
        ("IMG_ID,LAT,LON", {"max_level": 31}, "0 to 30"),
        ("IMG_ID,LAT,LON", {"min_count": 500}, "limits must be"),
        ("IMG_ID,LAT,LON", {"small": "keep"}, "drop, merge"),
        ("IMG_ID,LAT,LON", {"coarse_max": 10}, "not coarser than"),
    ],
)
def test_invalid_input_is_explained(
    tmp_path: Path, points: np.ndarray, header: str, given: dict[str, object], message: str
) -> None:
    path = as_csv(tmp_path / "a.csv", points, header)
    with pytest.raises(UsageError, match=message):
        build(path, tmp_path / "out", **(SMALL | given))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_existing_output_and_columns_without_numbers_are_explained(
    tmp_path: Path, points: np.ndarray
) -> None:
    path = as_csv(tmp_path / "a.csv", points)
    with pytest.raises(UsageError, match=r"a\.csv exists and is no folder: choose another --out"):
        build(path, path, **SMALL)  # type: ignore[arg-type]
    dates = pa.array([datetime(2026, 1, 1, tzinfo=UTC).date()])
    pq.write_table(pa.table({"lon": dates, "lat": [1.0]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet: cannot be read"):
        build(tmp_path / "a.parquet", tmp_path / "out", **SMALL)  # type: ignore[arg-type]


def test_columns_can_be_named(tmp_path: Path, points: np.ndarray) -> None:
    path = as_csv(tmp_path / "a.csv", points, "IMG_ID,Y,X")
    build(path, tmp_path, **SMALL, longitude_column="X", latitude_column="Y")
    assert len(read_partitions(tmp_path / "partitions.parquet").fine) > 10


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published partitions are not here")
def test_tokens_of_a_published_file(capsys: pytest.CaptureFixture[str]) -> None:
    print_tokens(SHARED / "coarse_50_5000.csv")
    printed = capsys.readouterr()
    tokens = printed.out.split()
    assert len(tokens) == 3298
    assert tokens[40] == "47e63"
    assert "line 42: 4.7E+064 is 47e63" in printed.err
    assert "tokens repaired" in printed.err


def test_a_file_that_cannot_be_repaired_is_refused_by_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "class_label,hex_id,imgs_per_cell,latitude_mean,longitude_mean\n0,47e9,60,0.0,0.0\n"
    )
    with pytest.raises(UsageError, match=r"line 2 \(47e9\)"):
        print_tokens(path)


def test_tokens_of_our_partitions_are_in_the_order_of_the_file(
    tmp_path: Path, points: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    build(as_csv(tmp_path / "a.csv", points), tmp_path, **SMALL)
    hierarchy = read_partitions(tmp_path / "partitions.parquet")
    capsys.readouterr()
    print_tokens(tmp_path / "partitions.parquet")
    assert capsys.readouterr().out.split() == [t for p in hierarchy.partitions for t in p.tokens]
    print_tokens(tmp_path / "partitions.parquet", "fine")
    assert capsys.readouterr().out.split() == list(hierarchy.fine.tokens)
    with pytest.raises(UsageError, match="no partition finest"):
        print_tokens(tmp_path / "partitions.parquet", "finest")


def test_a_parquet_without_tokens_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="no column of tokens"):
        print_tokens(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("no parquet")
    for name in ("b.parquet", "gone.parquet"):
        with pytest.raises(UsageError, match=name):
            print_tokens(tmp_path / name)
        with pytest.raises(UsageError, match=name):
            build(tmp_path / name, tmp_path / "out")
