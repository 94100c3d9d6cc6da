"""Our S2 arithmetic equals s2sphere's, bit by bit."""

import numpy as np
import pytest
import s2sphere
from hypothesis import given
from hypothesis import strategies as st

from triton_models.cells import s2cells
from triton_models.cells.distance import EARTH_RADIUS_KM, Floats, from_vectors
from triton_models.cells.s2cells import Ids

EDGES = [
    (0, 90), (0, -90), (77, 90), (180, 0), (-180, 0), (0, 0), (45, 0), (-45, 0), (135, 0),
    (90, 0), (-90, 0), (90, 45), (0, 45), (0, -45), (180, 45), (-180, -45), (-135, 0),
    (45, 35.264389682754654), (-45, -35.264389682754654), (180, 89.999999), (-180, -89.999999),
]  # fmt: skip


@pytest.fixture(scope="module")
def points() -> tuple[Floats, Floats]:
    vectors = np.random.default_rng(7).normal(size=(100_000, 3))
    longitude, latitude = from_vectors(vectors)
    longitude[: len(EDGES)], latitude[: len(EDGES)] = np.array(EDGES, float).T
    return longitude, latitude


@pytest.fixture(scope="module")
def cells(points: tuple[Floats, Floats]) -> Ids:
    ids = s2cells.leaf_ids(*points)[:2000]
    return s2cells.ancestors(ids, np.random.default_rng(8).integers(0, 31, len(ids)))


def of(identifier: int) -> s2sphere.CellId:
    return s2sphere.CellId(int(identifier))


def test_leaf_cells_of_100_000_points(points: tuple[Floats, Floats]) -> None:
    theirs = [
        s2sphere.CellId.from_lat_lng(s2sphere.LatLng.from_degrees(lat, lon)).id()
        for lon, lat in zip(*points, strict=True)
    ]
    assert np.array_equal(s2cells.leaf_ids(*points), np.array(theirs, np.uint64))


def test_the_tree(cells: Ids) -> None:
    first, last = s2cells.range_of(cells)
    tokens = s2cells.tokens_of(cells)
    level = s2cells.levels(cells)
    for k, cell in enumerate(map(of, cells)):
        assert level[k] == cell.level()
        assert tokens[k] == cell.to_token()
        assert (first[k], last[k]) == (cell.range_min().id(), cell.range_max().id())
        if level[k]:
            above = s2cells.ancestors(cells[k : k + 1], level[k] - 1)[0]
            assert above == cell.parent().id()
        if level[k] < 30:
            below = s2cells.children(cells[k : k + 1])[0]
            assert below.tolist() == [c.id() for c in cell.children()]
    assert np.array_equal(s2cells.ids_of(tokens), cells)


def test_corners_and_centres(cells: Ids) -> None:
    corners, centres = s2cells.corners(cells), s2cells.centres(cells)
    for k, cell in enumerate(map(of, cells)):
        theirs = [s2sphere.Cell(cell).get_vertex(v) for v in range(4)]
        np.testing.assert_allclose(corners[k], [[p[0], p[1], p[2]] for p in theirs], atol=1e-14)
        middle = cell.to_point_raw()
        np.testing.assert_allclose(centres[k], [middle[0], middle[1], middle[2]], atol=1e-15)


def test_areas(cells: Ids) -> None:
    large = cells[s2cells.levels(cells) <= 16]
    theirs = [s2sphere.Cell(of(c)).exact_area() * EARTH_RADIUS_KM**2 for c in large]
    np.testing.assert_allclose(s2cells.areas_km2(large), theirs, rtol=1e-4)


def test_the_six_faces_cover_the_sphere() -> None:
    total = s2cells.areas_km2(s2cells.face_ids()).sum()
    assert total == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2, rel=1e-12)


def test_children_share_their_parents_area(cells: Ids) -> None:
    wide = cells[s2cells.levels(cells) < 25]
    parts = s2cells.areas_km2(s2cells.children(wide).ravel()).reshape(-1, 4).sum(axis=1)
    np.testing.assert_allclose(parts, s2cells.areas_km2(wide), rtol=1e-6)


@given(st.text("0123456789abcdefg", max_size=18))
def test_a_text_is_a_token_or_refused(text: str) -> None:
    try:
        ids = s2cells.ids_of([text])
    except ValueError:
        return
    assert s2cells.are_valid(ids).all()
    assert s2cells.tokens_of(ids) == [text]


@pytest.mark.parametrize(
    "token", ["", "0", "f", "2", "zz", "123456789abcdef01", "-1", "47e6_3", "4710", "89C"]
)
def test_no_tokens(token: str) -> None:
    with pytest.raises(ValueError, match="not an S2 token"):
        s2cells.ids_of([token])
