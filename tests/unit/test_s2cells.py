"""Vectorised S2 arithmetic gives s2sphere's answers, bit by bit where they are integers."""

import numpy as np
import pytest
import s2sphere
from hypothesis import given
from hypothesis import strategies as st

from triton_models.answer.decoding import _tokens as tokens_in_triton
from triton_models.answer.radii import EARTH_RADIUS_KM
from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors, great_circle_km
from triton_models.cells.geocells import overlaps, with_ancestors
from triton_models.cells.s2cells import Ids

cell_ids = st.builds(
    lambda face, position, level: s2sphere.CellId.from_face_pos_level(face, position, level),
    st.integers(0, 5),
    st.integers(0, (1 << 61) - 1),
    st.integers(0, 30),
)
lists_of_cells = st.lists(cell_ids, min_size=1, max_size=20)
places = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


def array(cells: list[s2sphere.CellId]) -> Ids:
    return np.array([cell.id() for cell in cells], np.uint64)


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


@given(lists_of_cells)
def test_levels_ranges_and_tokens(cells: list[s2sphere.CellId]) -> None:
    ids = array(cells)
    assert s2cells.levels(ids).tolist() == [c.level() for c in cells]
    first, last = s2cells.range_of(ids)
    assert first.tolist() == [c.range_min().id() for c in cells]
    assert last.tolist() == [c.range_max().id() for c in cells]
    tokens = [c.to_token() for c in cells]
    assert s2cells.tokens_of(ids) == tokens_in_triton(ids) == tokens
    assert s2cells.ids_of(tokens).tolist() == ids.tolist()
    assert [s2cells.cell_of(t) for t in tokens] == cells


@given(lists_of_cells, st.data())
def test_ancestors_at_any_level(cells: list[s2sphere.CellId], data: st.DataObject) -> None:
    levels = [data.draw(st.integers(0, cell.level())) for cell in cells]
    theirs = [cell.parent(level).id() for cell, level in zip(cells, levels, strict=True)]
    assert s2cells.ancestors(array(cells), levels).tolist() == theirs


@given(lists_of_cells)
def test_cells_with_all_their_ancestors(cells: list[s2sphere.CellId]) -> None:
    theirs = {c.parent(level).id() for c in cells for level in range(c.level() + 1)}
    assert with_ancestors(array(cells)).tolist() == sorted(theirs)


@given(lists_of_cells)
def test_overlapping_cells(cells: list[s2sphere.CellId]) -> None:
    """``overlaps`` finds the cells that s2sphere's union drops or that another cell contains."""
    held = {
        k
        for k, cell in enumerate(cells)
        if any(other != cell and other.contains(cell) for other in cells) or cell in cells[:k]
    }
    found = overlaps(array(cells))
    assert {k for _, k in found} == held
    assert all(cells[holder].contains(cells[k]) for holder, k in found)


@given(st.lists(cell_ids.filter(lambda c: c.level() < 30), min_size=1, max_size=20))
def test_children(cells: list[s2sphere.CellId]) -> None:
    theirs = [[child.id() for child in cell.children()] for cell in cells]
    assert s2cells.children(array(cells)).tolist() == theirs


@given(lists_of_cells)
def test_corners_face_and_bounds(cells: list[s2sphere.CellId]) -> None:
    corners = s2cells.corners(array(cells))
    face, i, j = s2cells.face_ij(array(cells))
    for k, cell in enumerate(cells):
        whole = s2sphere.Cell(cell)
        theirs = [whole.get_vertex(v) for v in range(4)]
        np.testing.assert_allclose(corners[k], [[p[0], p[1], p[2]] for p in theirs], atol=1e-14)
        assert face[k] == cell.face()
        leaf = s2sphere.CellId.from_face_ij(int(face[k]), int(i[k]), int(j[k]))
        assert cell.contains(leaf)


@given(st.lists(places, min_size=1, max_size=20))
def test_leaf_cells(points: list[tuple[float, float]]) -> None:
    theirs = [s2sphere.CellId.from_lat_lng(s2sphere.LatLng.from_degrees(b, a)) for a, b in points]
    assert s2cells.leaf_ids(*np.array(points).T).tolist() == [c.id() for c in theirs]


@given(places, places)
def test_distances(here: tuple[float, float], there: tuple[float, float]) -> None:
    ends = [
        s2sphere.LatLng.from_degrees(latitude, longitude) for longitude, latitude in (here, there)
    ]
    theirs = ends[0].get_distance(ends[1]).radians * EARTH_RADIUS_KM
    assert great_circle_km(*here, *there) == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@given(places, places, st.floats(1, 5000))
def test_caps(here: tuple[float, float], there: tuple[float, float], radius_km: float) -> None:
    """A point is in s2sphere's cap where its great-circle distance is at most the radius."""
    axis, point = (s2sphere.LatLng.from_degrees(b, a).to_point() for a, b in (here, there))
    angle = s2sphere.Angle.from_radians(radius_km / EARTH_RADIUS_KM)
    distance = great_circle_km(*here, *there)
    if abs(distance - radius_km) > 1e-3:
        within = s2sphere.Cap.from_axis_angle(axis, angle).contains(point)
        assert within == (distance <= radius_km)


def test_the_six_faces() -> None:
    theirs = [s2sphere.CellId.from_face_pos_level(face, 0, 0).id() for face in range(6)]
    assert s2cells.face_ids().tolist() == theirs


@given(st.text("0123456789abcdefg", max_size=18))
def test_invalid_tokens_are_refused(text: str) -> None:
    try:
        ids = s2cells.ids_of([text])
    except ValueError:
        return
    assert of(ids[0]).is_valid()
    assert s2cells.tokens_of(ids) == [text]


@pytest.mark.parametrize(
    "token",
    [
        *("", "0", "f", "2", "X", "zz", "123456789abcdef01", "-1", "+1", " 1", "1 ", "47e6_3"),
        *("4710", "89C", "0x1", "٣"),
    ],
)
def test_no_tokens(token: str) -> None:
    with pytest.raises(ValueError, match="not an S2 token"):
        s2cells.ids_of([token])
