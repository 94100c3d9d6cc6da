"""Cells as polygons: valid, cut at the antimeridian, correct at the poles, equal to s2sphere's."""

import numpy as np
import pytest
import s2sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors, to_unit_vectors
from triton_models.cells.polygons import TOLERANCE_DEGREES, cell_polygons
from triton_models.cells.s2cells import Ids

shapely = pytest.importorskip("shapely")


def around(longitude: Floats, latitude: Floats, levels: range) -> Ids:
    leaves = s2cells.leaf_ids(longitude, latitude)
    return np.unique(np.concatenate([s2cells.ancestors(leaves, level) for level in levels]))


@pytest.fixture(scope="module")
def cells() -> Ids:
    """All cells to level 3, and many at the poles, along the antimeridian and elsewhere."""
    rng = np.random.default_rng(3)
    whole = [s2cells.face_ids()]
    for _ in range(3):
        whole.append(s2cells.children(whole[-1]).ravel())
    tiny = 10.0 ** rng.uniform(-9, 1, 100)
    sign = rng.choice([-1.0, 1.0], 100)
    polar = around(rng.uniform(-180, 180, 100), sign * (90 - tiny), range(4, 20, 3))
    seam = around(sign * (180 - tiny), rng.uniform(-90, 90, 100), range(4, 20, 3))
    longitude, latitude = from_vectors(rng.normal(size=(300, 3)))
    anywhere = around(longitude, latitude, range(4, 25, 4))
    return np.unique(np.concatenate([*whole, polar, seam, anywhere]))


def test_valid_counter_clockwise_and_in_range(cells: Ids) -> None:
    shapes = shapely.from_wkb(cell_polygons(cells))
    assert shapely.is_valid(shapes).all()
    assert {s.geom_type for s in shapes} == {"MultiPolygon"}
    assert all(part.exterior.is_ccw for s in shapes for part in s.geoms)
    west, south, east, north = shapely.total_bounds(shapes)
    assert (west, south, east, north) == (-180, -90, 180, 90)


def test_only_whole_faces_are_wider_than_a_quarter(cells: Ids) -> None:
    bounds = shapely.bounds(shapely.from_wkb(cell_polygons(cells)))
    wide = bounds[:, 2] - bounds[:, 0] > 90.0001
    assert (s2cells.levels(cells[wide]) == 0).all()
    assert wide.sum() == 3  # the faces of both poles, and the one that is cut in two


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_level_covers_the_map_once(level: int) -> None:
    ids = s2cells.face_ids()
    for _ in range(level):
        ids = s2cells.children(ids).ravel()
    shapes = shapely.from_wkb(cell_polygons(ids))
    assert shapely.area(shapes).sum() == pytest.approx(360 * 180, rel=3e-4)
    assert shapely.union_all(shapes).area == pytest.approx(360 * 180, rel=3e-4)


def test_points_lie_in_the_polygons_of_their_cells() -> None:
    rng = np.random.default_rng(5)
    longitude, latitude = from_vectors(rng.normal(size=(5000, 3)))
    ids = s2cells.ancestors(s2cells.leaf_ids(longitude, latitude), rng.integers(0, 7, 5000))
    shapes = shapely.from_wkb(cell_polygons(ids))
    points = shapely.points(longitude, latitude)
    # An edge is drawn within 0.05 degrees of the true one.
    assert (shapely.distance(shapes, points) <= 0.05).all()
    inner = shapely.contains(shapes, points)
    assert inner.mean() > 0.99


def test_edges_follow_great_circles(cells: Ids) -> None:
    """The true edge is near the middle of each drawn segment."""
    large = cells[s2cells.levels(cells) == 2]
    for cell, shape in zip(large, shapely.from_wkb(cell_polygons(large)), strict=True):
        ring = shapely.get_coordinates(shape)
        a, b = ring[:-1], ring[1:]
        along_pole = (np.abs(a[:, 1]) == 90) & (np.abs(b[:, 1]) == 90)
        middle = ((a + b) / 2)[~along_pole]
        corners = s2cells.corners(np.array([cell]))[0]
        normals = np.cross(corners, np.roll(corners, -1, axis=0))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        lon, lat = np.radians(middle).T
        vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        off = np.degrees(np.arcsin(np.abs(vectors @ normals.T))).min(axis=1)
        assert off.max() <= 0.051


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, (1 << 61) - 1), st.integers(8, 28))
def test_a_small_cell_has_the_corners_of_s2sphere(face: int, position: int, level: int) -> None:
    cell = s2sphere.CellId.from_face_pos_level(face, position, level)
    ids = np.array([cell.id()], np.uint64)
    drawn = shapely.get_coordinates(shapely.from_wkb(cell_polygons(ids)[0]))
    vectors = to_unit_vectors(*drawn.T)
    for k in range(4):
        corner = s2sphere.Cell(cell).get_vertex(k)
        gap = np.linalg.norm(vectors - [corner[0], corner[1], corner[2]], axis=1).min()
        assert gap < 1e-9


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, (1 << 61) - 1), st.integers(1, 20), st.data())
def test_a_polygon_contains_the_descendants_of_its_cell(
    face: int, position: int, level: int, data: st.DataObject
) -> None:
    """Centres of descendants lie in the polygon and within s2sphere's bounds of the cell."""
    cell = s2sphere.CellId.from_face_pos_level(face, position, level)
    shape = shapely.from_wkb(cell_polygons(np.array([cell.id()], np.uint64))[0])
    low, high = cell.range_min().id(), cell.range_max().id()
    leaf = s2sphere.CellId(data.draw(st.integers(low, high)) | 1)
    place = leaf.to_lat_lng()
    assert s2sphere.Cell(cell).get_rect_bound().contains(place)
    point = shapely.Point(place.lng().degrees, place.lat().degrees)
    assert shape.distance(point) <= TOLERANCE_DEGREES


def test_small_cells_are_plain_quadrilaterals() -> None:
    ids = s2cells.ancestors(s2cells.leaf_ids([12.34], [45.6]), 12)
    assert len(shapely.get_coordinates(shapely.from_wkb(cell_polygons(ids))[0])) == 5
