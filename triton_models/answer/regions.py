"""Credible regions of few cells: a broad posterior in at most 64 S2 cells of mixed level."""

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
"""DESIGN.md, section 3: a broad posterior must not blow a row up."""


@dataclass(frozen=True, eq=False)
class _Scale:
    """The fine cells, those below one level merged into their ancestors there.

    A merged cell is shrunk to the finest S2 cell that still holds all its fine cells. Cell k holds
    the fine cells ``starts[k]`` to ``starts[k + 1]`` along the Hilbert curve, and the next finer
    scale's ``parts[k]`` to ``parts[k + 1]``; ``saved[k]`` is the area that those do not cover.
    Areas are the mean ones of the cells' levels, in units of a face.
    """

    ids: Ids
    starts: Indices
    areas: Floats
    parts: Indices
    saved: Floats


class Coarsening:
    """Regions of at most 64 mixed-level cells, over disjoint cells given once.

    Not the fine cells that a region would consist of are merged: where they lie scattered, their
    ancestors soon cover everything. Instead the whole posterior is seen at a coarser scale, and
    the densest cells of that scale make the region. Cells left over of the 64 then go into
    splitting the region's cells where that saves most area. This is greedy, not the least area: on
    41 simulated regions a slow search (Lagrangian, itself no lower bound) found 0.5 to 1.07 times
    the area, 0.8 in the median. Covering the fine cells and dropping the thinnest took from
    as much (0.96 times) to several times the area.
    """

    def __init__(self, ids: Ids) -> None:
        """S2 ids of disjoint cells, in rising order."""
        self._scales = _scales(ids)

    def regions(self, p: Floats, levels: Sequence[float]) -> list[Region]:
        """For each level (rising) the ids and probabilities of a region, most probable cell first.

        ``p``: the probability of each cell, [n]. The probabilities of a region add up to its level
        at least, and without any one of its cells they would not.
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
        """Split cells as long as there are fewer than 64, then leave out what can be spared."""
        s, finer = self._scales[scale], self._scales[min(scale + 1, len(self._scales) - 1)]
        added = s.parts[cells + 1] - s.parts[cells] - 1
        # Stable, here and below: one posterior has one region, whichever NumPy sorts.
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
    """Leave out cells, the thinnest first, as long as the others reach the level."""
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
    """Indices of the greatest values, greatest first; all if there are no more than ``count``."""
    if len(values) > count:
        # All that tie with the last one, so that the order among equals is the stable sort's.
        likely = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        likely = np.arange(len(values))
    return likely[np.argsort(-values[likely], kind="stable")][:count]


def _single_above(values: Floats) -> Singles:
    """Rounded up to single precision, so that a sum that reaches a level still does."""
    single = values.astype(np.float32)
    above = np.where(single < values, np.nextafter(single, np.float32(2)), single)
    return np.minimum(above, np.float32(1))


def _scales(ids: Ids) -> list[_Scale]:
    """Scales that differ, from whole faces to the cells themselves."""
    ends = ids & (~ids + np.uint64(1))
    own = np.array([30 - (int(e).bit_length() - 1) // 2 for e in ends.tolist()])
    pairs = zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)
    # The level of the finest cell that holds both a cell and the next: it holds all between them.
    shared = np.array([max(-1, (61 - (a ^ b).bit_length()) // 2) for a, b in pairs], np.int64)
    scales: list[_Scale] = []
    for level in np.unique(np.append(shared + 1, 0))[::-1].tolist():
        starts = np.concatenate([[0], np.flatnonzero(shared < level) + 1, [len(ids)]])
        if scales and len(starts) > 0.9 * len(scales[-1].starts):
            continue  # nearly the same: not worth looking at for every photograph
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
