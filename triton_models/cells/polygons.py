"""S2 cells as polygons in longitude and latitude (MultiPolygon as WKB, WGS 84).

The edges of an S2 cell are great circles, but a map in degrees draws straight lines between
vertices. So long edges get further vertices. A face around a pole extends over all longitudes, and
the face that crosses the antimeridian is cut there. Outer rings run counter-clockwise (RFC 7946,
GeoJSON, section 3.1.6).

The vertices of all cells are computed together. s2sphere decides how the ring of one cell is cut.
"""

import struct

import numpy as np
from s2sphere import CellId

from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors
from triton_models.cells.s2cells import Ids

TOLERANCE_DEGREES = 0.05
"""Greatest distance, in longitude or latitude, between a drawn edge and the true one."""

_MAX_SEGMENTS = 1024
_NORTH_FACE, _ANTIMERIDIAN_FACE, _SOUTH_FACE = 2, 3, 5


def cell_polygons(ids: Ids) -> list[bytes]:
    """Return the MultiPolygon (WKB, little endian, longitude/latitude) of each cell."""
    polygons = [b""] * len(ids)
    segments = _segments(ids)
    for n in np.unique(segments):
        rows = np.flatnonzero(segments == n)
        for row, edges in zip(rows, _edges(ids[rows], int(n)), strict=True):
            polygons[row] = _wkb(_rings(CellId(int(ids[row])), edges))
    return polygons


def _segments(ids: Ids) -> Floats:
    """Return the number of pieces (a power of two) that the edges of each cell are cut into."""
    needed = np.full(len(ids), _MAX_SEGMENTS)
    left = np.arange(len(ids))
    segments = 1
    while left.size and segments < _MAX_SEGMENTS:
        finer = _edges(ids[left], 2 * segments)
        drawn = (finer[:, :, :-2:2] + finer[:, :, 2::2]) / 2
        off = np.abs(drawn - finer[:, :, 1::2])
        # The mean of 179 and -179 is 0: across the antimeridian a right edge is 180 off.
        off = np.minimum(off, np.abs(off - 180))
        close = off.max(axis=(1, 2, 3)) <= TOLERANCE_DEGREES
        needed[left[close]] = segments
        left = left[~close]
        segments *= 2
    # The antimeridian crosses the edges of a face in their middle, so a vertex is needed there.
    return np.where(s2cells.levels(ids) == 0, np.maximum(needed, 2), needed)


def _edges(ids: Ids, segments: int) -> Floats:
    """Return longitude and latitude along the four edges, [n, 4, segments + 1, 2].

    The order is counter-clockwise. Longitudes are continuous around the cell's middle: those of a
    cell across the antimeridian pass 180. Only those of the two polar faces jump there.
    """
    face, u, v = s2cells.uv_bounds(ids)
    along = np.linspace(0.0, 1.0, segments + 1)
    # Straight in u and v is straight (a great circle) on the sphere.
    u_along = u[:, :1] + (u[:, 1:] - u[:, :1]) * along
    v_along = v[:, :1] + (v[:, 1:] - v[:, :1]) * along
    fixed = np.ones_like(u_along)
    us = np.stack([u_along, u[:, 1:] * fixed, u_along[:, ::-1], u[:, :1] * fixed], axis=1)
    vs = np.stack([v[:, :1] * fixed, v_along, v[:, 1:] * fixed, v_along[:, ::-1]], axis=1)
    vectors = s2cells.face_uv_to_vectors(face[:, None, None], us, vs)
    longitude, latitude = from_vectors(vectors)

    middle = np.where(face == _ANTIMERIDIAN_FACE, 180.0, 0.0)
    below_face = s2cells.levels(ids) > 0
    middle[below_face] = from_vectors(s2cells.centres(ids[below_face]))[0]
    off = longitude - middle[:, None, None]
    longitude += 360.0 * (off < -180) - 360.0 * (off > 180)
    # A pole has no longitude. It gets that of the edge that ends in it.
    pole = (vectors[..., 0] == 0) & (vectors[..., 1] == 0)
    longitude[..., 0] = np.where(pole[..., 0], longitude[..., 1], longitude[..., 0])
    longitude[..., -1] = np.where(pole[..., -1], longitude[..., -2], longitude[..., -1])
    return np.stack([longitude, latitude], axis=-1)


def _rings(cell: CellId, edges: Floats) -> list[Floats]:
    """Return the closed outer rings of one cell, each [k, 2]."""
    points = edges.reshape(-1, 2)
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if cell.is_face() and cell.face() == _ANTIMERIDIAN_FACE:
        west, east = points[points[:, 0] <= 180], points[points[:, 0] >= 180]
        return [_close(_from_corner(west)), _close(_from_corner(east)) - [360.0, 0.0]]
    if cell.is_face() and cell.face() in (_NORTH_FACE, _SOUTH_FACE):
        return [_close(_around_pole(points, 90.0 if cell.face() == _NORTH_FACE else -90.0))]
    return [_close(points)]


def _from_corner(points: Floats) -> Floats:
    """Rotate a part of a cut ring so that the gap left by the cut is between end and start."""
    gap = np.argmax(np.abs(np.diff(points[:, 1], append=points[:1, 1])))
    return np.roll(points, -int(gap) - 1, axis=0)


def _around_pole(points: Floats, pole: float) -> Floats:
    """Return a ring around a pole, opened at the antimeridian and closed along the pole."""
    inner = points[np.abs(points[:, 0]) < 180]
    cut = points[np.abs(points[:, 0]) == 180][0, 1]
    curve = np.concatenate([[[-180.0, cut]], inner[np.argsort(inner[:, 0])], [[180.0, cut]]])
    if pole > 0:
        return np.concatenate([curve, [[180.0, pole], [-180.0, pole]]])
    return np.concatenate([[[-180.0, pole], [180.0, pole]], curve[::-1]])


def _close(points: Floats) -> Floats:
    return np.concatenate([points, points[:1]])


def _wkb(rings: list[Floats]) -> bytes:
    """Encode a MultiPolygon with one polygon for each ring (OGC 06-103r4, section 8.2)."""
    parts = [struct.pack("<BII", 1, 6, len(rings))]
    for ring in rings:
        parts.append(struct.pack("<BIII", 1, 3, 1, len(ring)))
        parts.append(np.ascontiguousarray(ring, "<f8").tobytes())
    return b"".join(parts)
