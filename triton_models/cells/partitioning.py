"""Build geo-cells from the coordinates of photographs: adaptive S2 partitions.

The method is that of PlaNet (Weyand et al. 2016, section 3) and ISNs (Müller-Budack et al. 2018,
section 3.1): begin with the six faces, split each cell that holds too many photographs, and leave
out those that hold too few.

Coordinates come in chunks of any size. They are kept as leaf cell ids, 8 bytes each, and sorted
once. Then every cell is a slice, and no step loops over points.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors, km_of_chord
from triton_models.cells.geocells import Hierarchy, Partition
from triton_models.cells.s2cells import Ids, Ints

Small = Literal["drop", "merge"]

_BLOCK = 1 << 18
"""Photographs whose vectors are in memory at a time: 24 bytes each."""
_MERGE_BLOCK = 1 << 9
"""Photographs compared with every cell at a time: 8 bytes for each cell."""


@dataclass(frozen=True)
class Limits:
    """Least and most photographs of a cell. The published name ``50_5000`` means 50 to 5,000."""

    min_count: int
    max_count: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_count <= self.max_count:
            raise ValueError(f"limits must be 1 ≤ min ≤ max, got {self}")


@dataclass(frozen=True)
class BuildReport:
    """Counts of the coordinates that a partition was built from, and of its cells."""

    name: str
    coordinates: int
    invalid: int
    """Coordinates left out: not finite, or out of range."""
    cells: int
    small_cells: int
    """Cells below the minimum: dropped or merged."""
    small_photographs: int
    """The photographs in them."""
    oversized_cells: int
    """Cells still above the maximum at the finest level allowed; they are kept."""


@dataclass(frozen=True)
class Leaves:
    """Sorted leaf cell ids of coordinates, and the number of invalid coordinates."""

    ids: Ids
    invalid: int


def read_leaves(chunks: Iterable[Floats]) -> Leaves:
    """Return the sorted leaf cell ids of chunks of longitude/latitude in degrees, each [k, 2]."""
    parts: list[Ids] = []
    invalid = 0
    for chunk in chunks:
        longitude, latitude = chunk[:, 0], chunk[:, 1]
        # Comparisons with NaN are false, so NaN is invalid too.
        valid = (np.abs(longitude) <= 180) & (np.abs(latitude) <= 90)
        invalid += int(np.sum(~valid))
        parts.append(s2cells.leaf_ids(longitude[valid], latitude[valid]))
    ids = np.concatenate([*parts, np.empty(0, np.uint64)])
    parts.clear()
    ids.sort()
    return Leaves(ids, invalid)


def build_partition(
    coordinates: Iterable[Floats] | Leaves,
    *,
    name: str,
    max_count: int,
    min_count: int,
    max_level: int = 30,
    small: Small = "drop",
) -> tuple[Partition, BuildReport]:
    """Partition the Earth by coordinates (chunks of longitude/latitude in degrees, each [k, 2]).

    Cells come in the order of the Hilbert curve. Cells with fewer than ``min_count`` photographs
    are left out. With ``small="drop"`` their photographs are left out too. With ``"merge"`` each
    photograph is counted in ``photographs`` and ``spread_km`` of the cell with the nearest mean
    position. That cell keeps its token and its mean position, so cells stay disjoint and contain
    their means.

    Raises ValueError where the limits make no sense or no cell is left.
    """
    limits = Limits(min_count, max_count)
    leaves = coordinates if isinstance(coordinates, Leaves) else read_leaves(coordinates)
    cells, starts, ends = _split(leaves.ids, limits.max_count, max_level)
    counts = ends - starts
    kept = counts >= limits.min_count
    if not kept.any():
        raise ValueError(f"partition {name}: no cell holds {min_count} photographs")

    means = _means(leaves.ids, starts[kept], ends[kept])
    squares = _squared_distances(leaves.ids, starts[kept], ends[kept], means)
    photographs = counts[kept]
    if small == "merge":
        slices = zip(starts[~kept], ends[~kept], strict=True)
        lost = np.concatenate([leaves.ids[:0], *(leaves.ids[a:b] for a, b in slices)])
        for block in _blocks(lost, _MERGE_BLOCK):
            nearest = np.argmax(block @ means.T, axis=1)
            photographs = photographs + np.bincount(nearest, minlength=len(means))
            squares += np.bincount(nearest, _square_km(block, means[nearest]), minlength=len(means))
    longitude, latitude = from_vectors(means)
    partition = Partition(
        name=name,
        tokens=tuple(s2cells.tokens_of(cells[kept])),
        longitude=longitude,
        latitude=latitude,
        photographs=photographs,
        spread_km=np.sqrt(squares / photographs),
    )
    return partition, BuildReport(
        name=name,
        coordinates=len(leaves.ids) + leaves.invalid,
        invalid=leaves.invalid,
        cells=len(partition),
        small_cells=int(np.sum(~kept)),
        small_photographs=int(counts[~kept].sum()),
        oversized_cells=int(np.sum(counts > limits.max_count)),
    )


def build_hierarchy(
    coordinates: Iterable[Floats] | Leaves,
    *,
    coarse: Limits,
    middle: Limits,
    fine: Limits,
    max_level: int = 30,
    small: Small = "drop",
) -> tuple[Hierarchy, tuple[BuildReport, BuildReport, BuildReport]]:
    """Build coarse, middle and fine partitions of the same coordinates.

    Each fine cell then has an ancestor (or itself) in the other two partitions. That ancestor holds
    at least as many photographs, so it is kept as long as a coarser partition has a maximum not
    below, and a minimum not above, that of the finer one.

    Raises ValueError for limits that are not ordered so.
    """
    for coarser, finer in ((coarse, middle), (middle, fine)):
        if coarser.max_count < finer.max_count or coarser.min_count > finer.min_count:
            raise ValueError(f"limits {coarser} are not coarser than {finer}")
    leaves = coordinates if isinstance(coordinates, Leaves) else read_leaves(coordinates)
    built = [
        build_partition(
            leaves,
            name=name,
            max_count=limits.max_count,
            min_count=limits.min_count,
            max_level=max_level,
            small=small,
        )
        for name, limits in (("coarse", coarse), ("middle", middle), ("fine", fine))
    ]
    (c, c_report), (m, m_report), (f, f_report) = built
    return Hierarchy(c, m, f), (c_report, m_report, f_report)


def _split(leaves: Ids, max_count: int, max_level: int) -> tuple[Ids, Ints, Ints]:
    """Return the occupied cells in the order of the curve, and the slice of ``leaves`` in each."""
    done: list[tuple[Ids, Ints, Ints]] = []
    cells = s2cells.face_ids()
    for level in range(max_level + 1):
        first, last = s2cells.range_of(cells)
        starts = np.searchsorted(leaves, first)
        ends = np.searchsorted(leaves, last, side="right")
        full = (ends - starts > max_count) & (level < max_level)
        keep = ~full & (ends > starts)
        done.append((cells[keep], starts[keep], ends[keep]))
        cells = s2cells.children(cells[full]).ravel()
    ids, starts, ends = (np.concatenate(column) for column in zip(*done, strict=True))
    order = np.argsort(ids)
    return ids[order], starts[order], ends[order]


def _blocks(leaves: Ids, size: int = _BLOCK) -> Iterator[Floats]:
    """Yield the unit vectors of leaf cells in blocks."""
    for at in range(0, len(leaves), size):
        vectors = s2cells.centres(leaves[at : at + size])
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _means(leaves: Ids, starts: Ints, ends: Ints) -> Floats:
    """Return the normalised mean vector of each slice, [n, 3].

    A mean of degrees would be wrong at the antimeridian.
    """
    sums = np.zeros((len(starts), 3))
    for rows, owners in _owned_blocks(leaves, starts, ends):
        for axis in range(3):
            sums[:, axis] += np.bincount(owners, rows[:, axis], minlength=len(starts))
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Floats = sums / norm
    return means


def _squared_distances(leaves: Ids, starts: Ints, ends: Ints, means: Floats) -> Floats:
    """Return the sum of squared great-circle distances (km²) of each slice from its mean, [n]."""
    total = np.zeros(len(starts))
    for rows, owners in _owned_blocks(leaves, starts, ends):
        total += np.bincount(owners, _square_km(rows, means[owners]), minlength=len(starts))
    return total


def _owned_blocks(leaves: Ids, starts: Ints, ends: Ints) -> Iterator[tuple[Floats, Ints]]:
    """Yield unit vectors of the photographs in the slices, and the slice index of each."""
    for at, vectors in zip(range(0, len(leaves), _BLOCK), _blocks(leaves), strict=True):
        position = np.arange(at, at + len(vectors))
        owner = np.searchsorted(starts, position, side="right") - 1
        inside = (owner >= 0) & (position < ends[owner])
        yield vectors[inside], owner[inside]


def _square_km(vectors: Floats, others: Floats) -> Floats:
    """Return the squared great-circle distances between unit vectors, row by row."""
    return km_of_chord(np.linalg.norm(vectors - others, axis=1)) ** 2
