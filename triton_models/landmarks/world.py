"""The geo-cells of the landmark release: the inhabited world, and a small cell for each place.

The partitions come from a gazetteer (`triton_models.cells.gazetteer`). A fine cell that holds
landmarks is split. Each landmark gets an S2 cell at LEVEL, or a smaller one where two landmarks
would share it. The rest of the split cell stays in the partition.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from s2sphere import CellId, CellUnion

from triton_models.cells import gazetteer, s2cells
from triton_models.cells.distance import Floats, from_vectors, great_circle_km, to_unit_vectors
from triton_models.cells.geocells import Hierarchy, Partition
from triton_models.cells.s2cells import Ids, Ints

LEVEL = 12
"""Level of a landmark's cell: about 2 km across, as a street-level answer needs."""


def world_with(longitude: Floats, latitude: Floats, photographs: Ints) -> tuple[Hierarchy, Ints]:
    """Return the partitions, and the class indices of each place's cells, [n, 3].

    The columns are coarse, middle and fine. Positions [n] are in degrees, WGS 84; `photographs` [n]
    counts those taken at each. A place's fine cell has the place's position as its mean and no
    spread. The other cells count the gazetteer's places.

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
    """Return one cell for each leaf: at LEVEL, or the coarsest below that holds no other leaf."""
    cells = [CellId(leaf) for leaf in leaves.tolist()]
    finest = dict.fromkeys(cells, LEVEL)
    # Of all leaves, a neighbour along the curve shares the finest cell with a leaf.
    for a, b in pairwise(sorted(finest)):
        apart = next(k for k in range(CellId.MAX_LEVEL + 1) if a.parent(k) != b.parent(k))
        finest[a], finest[b] = max(finest[a], apart), max(finest[b], apart)
    return np.array([cell.parent(finest[cell]).id() for cell in cells], np.uint64)


def _remainders(holders: Ids, own: Ids) -> Ids:
    """Return the cells that remain of `holders` when `own` are cut out of them."""
    rest = CellUnion.get_difference(CellUnion(holders.tolist()), CellUnion(own.tolist()))
    return np.array([cell.id() for cell in rest.cell_ids()], np.uint64)


def _inhabited(ids: Ids) -> tuple[npt.NDArray[np.str_], Floats, Floats, Ints, Floats]:
    """Return the columns of a partition for those of these cells that hold a gazetteer's places."""
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
