"""The geo-cells of the release: the inhabited world, with a small cell of its own for each place.

The world comes from a gazetteer (`triton_models.cells.gazetteer`). Where a landmark stands, the
fine cell that holds it is split until the landmark has an S2 cell at LEVEL for itself, or a smaller
one where two landmarks would share it; what is left of the split cell stays in the partition.
"""

import numpy as np
import numpy.typing as npt

from triton_models.cells import gazetteer, s2cells
from triton_models.cells.distance import Floats, from_vectors, great_circle_km, to_unit_vectors
from triton_models.cells.geocells import Hierarchy, Partition
from triton_models.cells.s2cells import Ids, Ints

LEVEL = 12
"""Of a landmark's cell: about 2 km across, as a street-level answer needs."""


def world_with(longitude: Floats, latitude: Floats, photographs: Ints) -> tuple[Hierarchy, Ints]:
    """The partitions, and the class indices of each place's coarse, middle and fine cell, [n, 3].

    Positions in degrees, WGS 84, [n]; `photographs` were taken at each. A place's fine cell has its
    very position as mean and no spread; the other cells count a gazetteer's places.

    Raises ValueError where a place lies in no cell of the gazetteer's partitions.
    """
    world = gazetteer.gazetteer_hierarchy()
    held = np.stack([p.locate(longitude, latitude) for p in world.partitions], axis=1)
    if (held < 0).any():
        raise ValueError("a place lies in no inhabited cell")
    own = _own_cells(s2cells.leaf_ids(longitude, latitude))
    split = np.unique(held[:, 2])
    rest = _inhabited(_remainders(world.fine.ids[split], own))
    kept = [
        np.delete(column, split)
        for column in (
            np.array(world.fine.tokens),
            world.fine.longitude,
            world.fine.latitude,
            world.fine.photographs,
            world.fine.spread_km,
        )
    ]
    landmarks = np.array(s2cells.tokens_of(own)), longitude, latitude, photographs, 0 * longitude
    tokens, *columns = map(np.concatenate, zip(kept, rest, landmarks, strict=True))
    order = np.argsort(s2cells.ids_of(tokens.tolist()))  # along the curve
    fine = Partition("fine", tuple(tokens[order].tolist()), *(c[order] for c in columns))
    hierarchy = Hierarchy(world.coarse, world.middle, fine)
    known = np.stack([p.locate(longitude, latitude) for p in hierarchy.partitions], axis=1)
    return hierarchy, known.astype(np.int64)


def _own_cells(leaves: Ids) -> Ids:
    """One cell for each leaf, at LEVEL or as deep as it takes to hold no other leaf."""
    # Neighbours along the curve share the deepest cell.
    order = np.argsort(leaves)
    shared = s2cells.common_levels(leaves[order][:-1], leaves[order][1:])
    deepest = np.maximum(np.append(shared, -1), np.insert(shared, 0, -1))
    own = np.empty_like(leaves)
    own[order] = s2cells.ancestors(leaves[order], np.maximum(LEVEL, deepest + 1))
    return own


def _remainders(holders: Ids, own: Ids) -> Ids:
    """The cells that are left of `holders` when `own` are cut out of them."""
    left, open_cells = [], holders
    while len(open_cells):
        parts = s2cells.children(open_cells).ravel()
        first, last = s2cells.range_of(parts)
        holds = ((first[:, None] <= own) & (own <= last[:, None])).any(axis=1)
        left.append(parts[~holds])
        open_cells = parts[holds & ~np.isin(parts, own)]
    return np.concatenate(left)


def _inhabited(ids: Ids) -> tuple[npt.NDArray[np.str_], Floats, Floats, Ints, Floats]:
    """The columns of a partition, for those of these cells in which a gazetteer's places lie."""
    cities = gazetteer.cities()
    leaves = s2cells.leaf_ids(cities.longitude, cities.latitude)
    columns = []
    for cell, first, last in zip(s2cells.tokens_of(ids), *s2cells.range_of(ids), strict=True):
        inside = (first <= leaves) & (leaves <= last)
        if not inside.any():
            continue
        lon, lat = cities.longitude[inside], cities.latitude[inside]
        mean = to_unit_vectors(lon, lat).mean(axis=0)
        at = from_vectors(mean)
        spread = np.sqrt(np.mean(great_circle_km(lon, lat, *at) ** 2))
        columns.append((cell, *at, int(inside.sum()), spread))
    token, lon, lat, count, spread = map(np.array, zip(*columns, strict=True))
    return token, lon, lat, count, spread
