"""Regions are disjoint, have at most 64 cells, reach their level and are minimal."""

import numpy as np
import pytest
import s2sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.answer.regions import MOST_CELLS, Coarsening, top
from triton_models.cells import s2cells
from triton_models.cells.distance import Floats
from triton_models.cells.geocells import overlaps
from triton_models.cells.s2cells import Ids

LEVELS = (0.5, 0.8, 0.95)


def random_cells(seed: int, splits: int) -> Ids:
    """Return disjoint cells of mixed levels: randomly split faces, with some left out."""
    rng = np.random.default_rng(seed)
    cells = s2cells.face_ids()
    for _ in range(splits):
        chosen = rng.random(len(cells)) < rng.choice([0.2, 0.9])
        chosen &= s2cells.levels(cells) < 30
        cells = np.concatenate([cells[~chosen], s2cells.children(cells[chosen]).ravel()])
        keep = rng.random(len(cells)) < 0.9
        if keep.any():
            cells = cells[keep]
        if len(cells) > 3000:
            break
    return np.sort(cells)


def mass_of(ids: Ids, cells: Ids, p: Floats) -> Floats:
    first, last = s2cells.range_of(ids)
    held = (first[:, None] <= cells) & (cells <= last[:, None])
    return held @ p


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 9), st.sampled_from([0.02, 0.3, 3.0, 1e4]))
def test_every_region(seed: int, splits: int, concentration: float) -> None:
    cells = random_cells(seed, splits)
    p = np.random.default_rng(seed).dirichlet(np.full(len(cells), concentration))
    for level, (ids, mass) in zip(LEVELS, Coarsening(cells).regions(p, LEVELS), strict=True):
        total = mass.sum(dtype=np.float64)
        assert 1 <= len(ids) <= MOST_CELLS
        assert not overlaps(ids)
        region = s2sphere.CellUnion(ids.tolist())
        assert all(s2sphere.CellId(k).is_valid() for k in ids.tolist())
        held = [region.contains(s2sphere.CellId(k)) for k in cells.tolist()]
        assert p[held].sum() == pytest.approx(total, rel=1e-6)
        assert total >= level
        assert (total - mass < level).all(), "without any of its cells it would be too small"
        assert (np.diff(mass) <= 0).all()
        np.testing.assert_allclose(mass, mass_of(ids, cells, p), rtol=1e-6, atol=1e-12)


def test_a_spread_out_posterior_needs_coarser_cells() -> None:
    cells = s2cells.face_ids()
    for _ in range(6):
        cells = s2cells.children(cells).ravel()
    cells = np.sort(cells)
    even = np.full(len(cells), 1 / len(cells))
    for level, (ids, mass) in zip(LEVELS, Coarsening(cells).regions(even, LEVELS), strict=True):
        assert s2cells.levels(ids).max() < 6
        assert mass.sum() < level + 0.02
        earth = s2cells.areas_km2(s2cells.face_ids()).sum()
        assert s2cells.areas_km2(ids).sum() / earth == pytest.approx(level, abs=0.06)


def test_cells_are_fine_where_the_mass_is() -> None:
    """A town of 100 small cells has 95 % of the mass; the rest is spread over the world."""
    town = s2cells.ancestors(s2cells.leaf_ids([2.35], [48.86]), 9)
    small = town
    for _ in range(4):
        small = s2cells.children(small).ravel()
    rest = s2cells.children(s2cells.face_ids()).ravel()
    rest = rest[[not overlaps(np.array([c, town[0]])) for c in rest]]
    cells = np.concatenate([small, rest])
    p = np.concatenate([np.full(len(small), 0.97), np.full(len(rest), 0.03)])
    p[: len(small)] /= len(small)
    p[len(small) :] /= len(rest)
    order = np.argsort(cells)
    for ids, _ in Coarsening(cells[order]).regions(p[order], LEVELS):
        first, last = s2cells.range_of(town)
        assert ((ids >= first) & (ids <= last)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(1, 100))
def test_top(values: list[float], count: int) -> None:
    given_values = np.array(values)
    found = top(given_values, count)
    assert given_values[found].tolist() == sorted(values, reverse=True)[:count]
    assert len(set(found.tolist())) == len(found)
