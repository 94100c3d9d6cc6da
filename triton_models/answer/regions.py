"""Credible regions of at most 64 S2 cells of mixed level.

This module runs inside Triton and has NumPy only, so it computes with ids and not with s2sphere.
The tests compare its cells with s2sphere's.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Region = tuple[Ids, Singles]

MOST_CELLS = 64
"""Limit on a stored region, so that a broad posterior does not make a large row."""


@dataclass(frozen=True, eq=False)
class _Scale:
    """The fine cells, with those below one level merged into their ancestors at that level.

    A merged cell is replaced by the finest S2 cell that contains all its fine cells. Cell k
    contains the fine cells ``starts[k]`` to ``starts[k + 1]`` along the Hilbert curve, and the
    cells ``parts[k]`` to ``parts[k + 1]`` of the next finer scale. ``saved[k]`` is the part of its
    area that those do not cover. Areas are the mean areas of the cells' levels, in units of a face.
    """

    ids: Ids
    starts: Indices
    areas: Floats
    parts: Indices
    saved: Floats


class Coarsening:
    """Computes regions of at most 64 mixed-level cells over fixed disjoint cells.

    The region's fine cells are not merged directly: where they are scattered, their ancestors soon
    cover everything. Instead the whole posterior is summed at a coarser scale, and the densest
    cells of that scale make the region. If they are fewer than 64, the cells whose split saves most
    area are split.

    This is greedy and does not give the least area. On 41 simulated regions a slow Lagrangian
    search (itself no lower bound) found 0.5 to 1.07 times the area, 0.8 in the median. Covering the
    fine cells and dropping the least dense took 0.96 to several times the area.
    """

    def __init__(self, ids: Ids) -> None:
        """Take the S2 ids of disjoint cells, in ascending order."""
        self._scales = _scales(ids)

    def regions(self, p: Floats, levels: Sequence[float]) -> list[Region]:
        """Return ids and probabilities of a region for each level, most probable cell first.

        ``p``: the probability of each cell, [n]. ``levels``: ascending. A region's probabilities
        add up to at least its level, and to less without any one of its cells.
        """
        below = np.zeros(len(p) + 1)
        np.cumsum(p, out=below[1:])

        @cache
        def densest(scale: int) -> tuple[Indices, Floats]:
            s = self._scales[scale]
            reached = below[s.starts]
            mass = reached[1:] - reached[:-1]
            cells = top(mass / s.areas, MOST_CELLS)
            return cells, np.cumsum(mass[cells])

        found = []
        too_fine = len(self._scales)
        for level in levels:
            too_fine = bisect_left(
                range(too_fine), True, key=lambda scale: densest(scale)[1][-1] < level
            )
            cells, reached = densest(too_fine - 1)
            cells = cells[: int(np.searchsorted(reached, level)) + 1]
            found.append(self._refined(too_fine - 1, cells, below, level))
        return found

    def _refined(self, scale: int, cells: Indices, below: Floats, level: float) -> Region:
        """Split cells while there are fewer than 64, then drop those that are not needed."""
        s, finer = self._scales[scale], self._scales[min(scale + 1, len(self._scales) - 1)]
        added = s.parts[cells + 1] - s.parts[cells] - 1
        # Sorts are stable, here and below, so that all NumPy versions give the same region.
        order = np.argsort(-s.saved[cells] / np.maximum(added, 1), kind="stable")
        split = np.zeros(len(cells), np.bool_)
        split[order[np.cumsum(added[order]) <= MOST_CELLS - len(cells)]] = True
        begin, end = s.parts[cells[split]].tolist(), s.parts[cells[split] + 1].tolist()
        fine = np.array([k for a, b in zip(begin, end, strict=True) for k in range(a, b)], np.int64)
        kept = cells[~split]
        ids = np.concatenate([s.ids[kept], finer.ids[fine]])
        areas = np.concatenate([s.areas[kept], finer.areas[fine]])
        mass = np.concatenate(
            [
                below[s.starts[kept + 1]] - below[s.starts[kept]],
                below[finer.starts[fine + 1]] - below[finer.starts[fine]],
            ]
        )
        return spare(ids, _single_above(mass), mass / areas, level)


def spare(ids: Ids, mass: Singles, density: Floats, level: float) -> Region:
    """Drop cells, the least dense first, while the remaining ones reach the level."""
    masses = mass.tolist()
    total = sum(masses)
    kept = set(range(len(masses)))
    for k in np.argsort(density, kind="stable").tolist():
        if total - masses[k] >= level:
            total -= masses[k]
            kept.remove(k)
    order = sorted(kept, key=lambda k: -masses[k])
    return ids[order], mass[order]


def top(values: Floats, count: int) -> Indices:
    """Return the indices of the ``count`` greatest values (or of all), greatest first."""
    if len(values) > count:
        # Keep all values that tie with the last one, so that the stable sort decides among equals.
        likely = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        likely = np.arange(len(values))
    return likely[np.argsort(-values[likely], kind="stable")][:count]


def _single_above(values: Floats) -> Singles:
    """Round up to single precision, so that a sum that reaches a level still does."""
    single = values.astype(np.float32)
    above = np.where(single < values, np.nextafter(single, np.float32(2)), single)
    return np.minimum(above, np.float32(1))


def _scales(ids: Ids) -> list[_Scale]:
    """Return scales that differ, from whole faces to the cells themselves."""
    ends = ids & (~ids + np.uint64(1))
    own = np.array([30 - (int(e).bit_length() - 1) // 2 for e in ends.tolist()])
    pairs = zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)
    # The level of the finest cell that contains a cell and its successor.
    shared = np.array([max(-1, (61 - (a ^ b).bit_length()) // 2) for a, b in pairs], np.int64)
    scales: list[_Scale] = []
    for level in np.unique(np.append(shared + 1, 0))[::-1].tolist():
        starts = np.concatenate([[0], np.flatnonzero(shared < level) + 1, [len(ids)]])
        if scales and len(starts) > 0.9 * len(scales[-1].starts):
            continue  # nearly the same scale: not worth its cost for every photograph
        meets = np.append(np.where(shared >= level, shared, 30), 30)
        levels = np.minimum.reduceat(np.minimum(meets, own), starts[:-1])
        bit = np.uint64(1) << (2 * (30 - levels)).astype(np.uint64)
        areas = 4.0**-levels
        finer = scales[-1] if scales else None
        parts = np.searchsorted(finer.starts if finer else starts, starts)
        covered = np.add.reduceat(finer.areas if finer else areas, parts[:-1])
        node = (ids[starts[:-1]] & (~bit + np.uint64(1))) | bit
        scales.append(_Scale(node, starts, areas, parts, areas - covered))
    return scales[::-1]
