"""Partitions, ancestors, and the tables of a release."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from triton_models.cells import s2cells
from triton_models.cells.distance import from_vectors
from triton_models.cells.geocells import (
    Hierarchy,
    Partition,
    cell_table,
    overlaps,
    parents,
    read_partitions,
    with_ancestors,
    write_tables,
)


def partition(name: str, *tokens: str, spread: float = 10.0) -> Partition:
    longitude, latitude = from_vectors(s2cells.centres(s2cells.ids_of(tokens)))
    n = len(tokens)
    return Partition(name, tokens, longitude, latitude, np.arange(1, n + 1), np.full(n, spread))


@pytest.fixture
def hierarchy() -> Hierarchy:
    return Hierarchy(
        partition("coarse", "89c", "47e4"),
        partition("middle", "47e4", "89c4", "89cc"),
        partition("fine", "89c24", "89c4c", "89cc", "47e1c", "47e04"),
    )


def test_parents_are_ancestors_or_the_same_cell(hierarchy: Hierarchy) -> None:
    assert hierarchy.fine_to_coarse.tolist() == [0, 0, 0, 1, 1]
    assert hierarchy.fine_to_middle.tolist() == [1, 1, 2, 0, 0]


def test_no_ancestor_is_minus_one() -> None:
    fine, coarse = partition("fine", "89c25", "47e04"), partition("coarse", "47e4")
    assert parents(fine, coarse).tolist() == [-1, 0]
    assert parents(coarse, fine).tolist() == [-1]


@pytest.mark.parametrize("tokens", [("89c", "89c25"), ("89c25", "47e04", "89c25")])
def test_overlapping_cells_are_refused(tokens: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="overlap, such as 89c"):
        partition("p", *tokens)


def test_overlaps_finds_every_contained_cell() -> None:
    ids = s2cells.ids_of(["89c25", "1", "89c", "89c4", "47e04"])
    assert sorted(overlaps(ids)) == [(2, 0), (2, 3)]


def test_columns_of_different_lengths_are_refused() -> None:
    one = np.zeros(1)
    with pytest.raises(ValueError, match="different lengths"):
        Partition("p", ("1", "3"), one, one, np.ones(1, np.int64), one)


def test_locate(hierarchy: Hierarchy) -> None:
    fine = hierarchy.fine
    assert fine.locate(fine.longitude, fine.latitude).tolist() == [0, 1, 2, 3, 4]
    assert fine.locate([0.0], [0.0]).tolist() == [-1]
    assert not len(fine.means_outside())


def test_a_mean_outside_its_cell_is_found() -> None:
    moved = Partition("p", ("89c",), np.zeros(1), np.zeros(1), np.ones(1, np.int64), np.ones(1))
    assert moved.means_outside().tolist() == [0]


def test_unknown_spread_is_that_of_uniform_points() -> None:
    """Uniform points in the cell have that root-mean-square distance from its centre."""
    unknown = partition("p", "89c24", "47e4", spread=float("nan"))
    rng = np.random.default_rng(1)
    for k, cell in enumerate(unknown.ids):
        _, u, v = s2cells.uv_bounds(np.array([cell]))
        face = np.array([int(cell >> np.uint64(61))])
        points = s2cells.face_uv_to_vectors(
            face, rng.uniform(u[0, 0], u[0, 1], 20_000), rng.uniform(v[0, 0], v[0, 1], 20_000)
        )
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        middle = points.mean(axis=0)
        seen = 6371.0088 * np.sqrt(np.square(points - middle).sum(axis=1).mean())
        assert unknown.known_spread_km[k] == pytest.approx(seen, rel=0.06)
    assert partition("p", "89c").known_spread_km.tolist() == [10.0]


def test_ancestors_are_closed() -> None:
    ids = with_ancestors(s2cells.ids_of(["89c25", "47e04"]))
    level = s2cells.levels(ids)
    assert (level == 0).sum() == 2
    assert np.isin(s2cells.ancestors(ids[level > 0], level[level > 0] - 1), ids).all()


def test_the_cell_table(hierarchy: Hierarchy) -> None:
    rows = cell_table(hierarchy).to_pylist()
    seen: set[str | None] = {None}
    for row in rows:
        assert row["parent"] in seen, "a parent comes before its children"
        assert (row["parent"] is None) == (row["level"] == 0)
        assert row["polygon"][:5] == b"\x01\x06\x00\x00\x00"
        seen.add(row["token"])
    assert len(seen) == len(rows) + 1
    assert {t for p in hierarchy.partitions for t in p.tokens} <= seen


def test_tables_round_trip(hierarchy: Hierarchy, tmp_path: Path) -> None:
    unknown = Hierarchy(hierarchy.coarse, hierarchy.middle, partition("fine", "89c", spread=np.nan))
    for given in (hierarchy, unknown):
        write_tables(given, tmp_path)
        read = read_partitions(tmp_path / "partitions.parquet")
        for ours, theirs in zip(given.partitions, read.partitions, strict=True):
            assert ours.tokens == theirs.tokens
            for column in ("longitude", "latitude", "photographs", "spread_km"):
                np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column))
    assert pq.read_table(tmp_path / "partitions.parquet")["spread_km"].null_count == 1


def test_a_partition_with_missing_classes_is_refused(hierarchy: Hierarchy, tmp_path: Path) -> None:
    write_tables(hierarchy, tmp_path)
    path = tmp_path / "partitions.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ValueError, match="partition coarse"):
        read_partitions(path)
