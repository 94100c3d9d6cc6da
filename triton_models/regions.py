"""Credible regions of few cells: many fine cells covered by at most 64 of mixed level."""

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

MOST_CELLS = 64
"""DESIGN.md, section 3: a broad posterior must not blow a row up."""


class Coarsening:
    """Cover many cells by at most 64 of mixed level.

    Along the Hilbert curve, the finest cell that holds two cells holds all between them. So cells
    are merged bottom-up by joining neighbours on the curve: the finest common ancestors first, as
    these add the least area, and at the last level those that are best filled already.
    """

    def __init__(self, ids: Ids) -> None:
        """The ids of disjoint cells, sorted."""
        self.ids = ids
        below = (ids & (~ids + np.uint64(1))) - np.uint64(1)
        self._first = ids - below
        self._levels = np.array([31 - int(b).bit_length() // 2 - 1 for b in below.tolist()])
        pairs = zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True)
        self._joins = np.array([max(-1, (61 - (a ^ b).bit_length()) // 2) for a, b in pairs])

    def region(self, p: Floats, selected: Indices, level: float) -> tuple[Ids, Singles]:
        """Cover the selected cells (more than 64, sorted), and drop what the level can spare.

        ``p``: the probability of all cells, in their order. Returns ids and probabilities, most
        probable first; their sum reaches the level, and without any of them it would not.
        """
        ids = self._cover(selected)
        bit = ids & (~ids + np.uint64(1))
        starts = np.searchsorted(self._first, ids - (bit - np.uint64(1)))
        ends = np.searchsorted(self._first, ids + (bit - np.uint64(1)), side="right")
        below = np.concatenate([[0.0], np.cumsum(p)])
        exact = np.minimum(below[ends] - below[starts], 1.0)
        mass = exact.astype(np.float32)
        mass = np.where(mass < exact, np.nextafter(mass, np.float32(1)), mass)
        order = np.argsort(-mass, kind="stable")
        count = int(np.searchsorted(np.cumsum(mass[order], dtype=np.float64), level)) + 1
        return ids[order[:count]], mass[order[:count]]

    def _cover(self, selected: Indices) -> Ids:
        # The level of the finest cell that holds each selected cell and the next.
        joins = np.minimum.reduceat(self._joins[: selected[-1]], selected[:-1])
        last = int(np.partition(joins, MOST_CELLS - 1)[MOST_CELLS - 1])
        # Join all that meet below the last level; such a group is covered by where it meets.
        starts = np.concatenate([[0], np.flatnonzero(joins <= last) + 1])
        meets = np.minimum(np.append(np.where(joins > last, joins, 30), 30), self._levels[selected])
        levels = np.minimum.reduceat(meets, starts)
        # Of the groups that meet at the last level itself, join as many as needed.
        parent = np.concatenate([[0], np.cumsum(joins[starts[1:] - 1] < last)])
        saved = np.bincount(parent) - 1
        empty = 1 - np.bincount(parent, 4.0 ** (last - levels))
        order = np.argsort(np.where(saved > 0, empty / np.maximum(saved, 1), np.inf))
        enough = np.searchsorted(np.cumsum(saved[order]), len(starts) - MOST_CELLS) + 1
        joined = np.isin(parent, order[:enough])
        levels[joined] = last
        kept = ~joined | np.concatenate([[True], np.diff(parent) > 0])
        bit = np.uint64(1) << (2 * (30 - levels[kept])).astype(np.uint64)
        ids: Ids = (self.ids[selected[starts[kept]]] & (~bit + np.uint64(1))) | bit
        return ids
