"""Invariants of adaptive partitions, for any coordinates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors, great_circle_km
from triton_models.cells.partitioning import Limits, build_hierarchy, build_partition, read_leaves


def clustered(seed: int, count: int) -> Floats:
    """Coordinates clustered around places, some at the antimeridian and the poles."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(12, 3))
    places[0], places[1] = (-1, 1e-3, 0.2), (1e-3, 0, 1)
    vectors = places[rng.integers(12, size=count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors + rng.normal(size=(count, 3)) * 10.0 ** rng.uniform(-4, -0.5, (count, 1))
    return np.stack(from_vectors(vectors), axis=1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(50, 3000),
    max_count=st.integers(1, 400),
    min_count=st.integers(1, 20),
    max_level=st.integers(2, 30),
    small=st.sampled_from(["drop", "merge"]),
)
def test_every_partition(
    seed: int, count: int, max_count: int, min_count: int, max_level: int, small: str
) -> None:
    points = clustered(seed, count)
    max_count = max(max_count, min_count)
    try:
        partition, report = build_partition(
            [points[:40], points[40:]],
            name="p",
            max_count=max_count,
            min_count=min_count,
            max_level=max_level,
            small=small,  # type: ignore[arg-type]
        )
    except ValueError:
        assert min_count > 1, "with a minimum of one, a cell always remains"
        return
    at = partition.locate(*points.T)
    own = np.bincount(at[at >= 0], minlength=len(partition))
    levels = s2cells.levels(partition.ids)
    assert not len(partition.means_outside())
    assert (own >= min_count).all()
    assert ((own <= max_count) | (levels == max_level)).all()
    assert levels.max() <= max_level
    assert report.small_photographs == (at < 0).sum()
    assert report.coordinates == count
    assert report.cells == len(partition)
    assert report.oversized_cells == (own > max_count).sum()
    if small == "drop":
        assert np.array_equal(partition.photographs, own)
    else:
        assert partition.photographs.sum() == count
    # No cell could be the parent, because it has more than the maximum of photographs.
    up = s2cells.ancestors(partition.ids[levels > 0], levels[levels > 0] - 1)
    low, high = s2cells.range_of(up)
    leaves = np.sort(s2cells.leaf_ids(*points.T))
    held = np.searchsorted(leaves, high, "right") - np.searchsorted(leaves, low)
    assert (held > max_count).all()


def test_mean_and_spread_on_the_sphere() -> None:
    points = clustered(3, 2000)
    partition, _ = build_partition([points], name="p", max_count=300, min_count=20)
    at = partition.locate(*points.T)
    for k in range(len(partition)):
        own = points[at == k]
        longitude, latitude = own.T
        here = partition.longitude[k], partition.latitude[k]
        off = great_circle_km(longitude, latitude, *here)
        assert partition.spread_km[k] == pytest.approx(np.sqrt(np.mean(off**2)), rel=1e-4, abs=1e-4)
        nudged = [
            np.mean(great_circle_km(longitude, latitude, here[0] + a, here[1]) ** 2)
            for a in (-2.0, 2.0)
        ]
        assert abs(partition.latitude[k]) > 80 or min(nudged) > np.mean(off**2)


def test_a_mean_across_the_antimeridian() -> None:
    points = np.array([[179.0, 0.0], [-179.0, 0.0], [180.0, 1.0], [-180.0, -1.0]] * 5)
    partition, _ = build_partition([points], name="p", max_count=100, min_count=1)
    assert abs(partition.longitude[0]) == pytest.approx(180)
    assert partition.latitude[0] == pytest.approx(0, abs=1e-6)


def test_merged_photographs_go_to_the_nearest_mean() -> None:
    lonely = np.array([[10.0, 0.1]])
    points = np.concatenate([np.full((30, 2), 0.2), np.full((30, 2), [40.0, 0.2]), lonely])
    dropped, report = build_partition([points], name="p", max_count=30, min_count=5)
    merged, _ = build_partition([points], name="p", max_count=30, min_count=5, small="merge")
    assert (report.small_cells, report.small_photographs) == (1, 1)
    assert dropped.photographs.tolist() == [30, 30]
    nearest = int(np.argmin(dropped.longitude))
    assert merged.photographs[nearest] == 31
    assert merged.longitude[nearest] == dropped.longitude[nearest]
    assert merged.spread_km[nearest] > dropped.spread_km[nearest]


def test_invalid_coordinates_are_counted() -> None:
    points = [[1.0, 2.0], [np.nan, 0], [0, np.inf], [181, 0], [0, -90.5], [-180, 90]]
    leaves = read_leaves([np.array(points)])
    assert (len(leaves.ids), leaves.invalid) == (2, 4)


def test_the_partition_does_not_depend_on_the_chunks() -> None:
    points = clustered(5, 1000)
    whole = build_partition([points], name="p", max_count=100, min_count=5)
    pieces = build_partition(np.array_split(points, 17), name="p", max_count=100, min_count=5)
    assert whole[0].tokens == pieces[0].tokens
    assert whole[1] == pieces[1]


@pytest.mark.parametrize("small", ["drop", "merge"])
def test_every_fine_cell_has_its_ancestors(small: str) -> None:
    hierarchy, _ = build_hierarchy(
        [clustered(9, 5000)],
        coarse=Limits(5, 500),
        middle=Limits(5, 200),
        fine=Limits(5, 50),
        small=small,  # type: ignore[arg-type]
    )
    assert len(hierarchy.coarse) < len(hierarchy.middle) < len(hierarchy.fine)
    assert (hierarchy.fine_to_middle >= 0).all()
    assert (hierarchy.fine_to_coarse >= 0).all()


def test_invalid_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="1 ≤ min ≤ max"):
        Limits(10, 5)
    with pytest.raises(ValueError, match="not coarser"):
        build_hierarchy([], coarse=Limits(5, 50), middle=Limits(5, 200), fine=Limits(5, 10))
    with pytest.raises(ValueError, match="no cell holds 5"):
        build_partition([np.zeros((4, 2))], name="p", max_count=10, min_count=5)
    with pytest.raises(ValueError, match="no cell holds 1"):
        build_partition([], name="p", max_count=10, min_count=1)
