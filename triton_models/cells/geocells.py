"""Geo-cells: partitions of the Earth into S2 cells of about equal numbers of photographs.

This module defines a partition and the hierarchy of three partitions, and their tables in a
release. ``partitioning`` builds partitions, ``published`` reads them from published files.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import Decoder
from triton_models.cells import s2cells
from triton_models.cells.polygons import cell_polygons
from triton_models.cells.s2cells import Floats, Ids, Ints

Indices = npt.NDArray[np.int32]

LEVELS = ("coarse", "middle", "fine")


@dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint S2 cells, in the order of a network's classes.

    ``longitude`` and ``latitude`` (degrees, WGS 84) are the mean position of each cell's
    photographs, and ``photographs`` is their number. ``spread_km`` is the root-mean-square
    great-circle distance from that position to them (NaN where unknown). All have shape [n].

    Raises ValueError where a token is not a cell, two cells overlap, or the lengths differ.
    """

    name: str
    tokens: tuple[str, ...]
    longitude: Floats
    latitude: Floats
    photographs: Ints
    spread_km: Floats

    def __post_init__(self) -> None:
        shapes = {len(self.tokens)} | {
            len(a) for a in (self.longitude, self.latitude, self.photographs, self.spread_km)
        }
        if len(shapes) != 1:
            raise ValueError(f"partition {self.name}: columns of different lengths {shapes}")
        overlapping = overlaps(self.ids)
        if overlapping:
            a, b = (self.tokens[k] for k in overlapping[0])
            raise ValueError(
                f"partition {self.name}: {len(overlapping)} cells overlap, such as {a} and {b}"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> Ids:
        """The 64-bit S2 ids, shape [n]."""
        return s2cells.ids_of(self.tokens)

    @cached_property
    def known_spread_km(self) -> Floats:
        """``spread_km``, and where unknown that of photographs spread evenly over the cell.

        For a square of area A that is √(A/6) from its middle. Photographs cluster, so this
        overstates the spread, and confidence is rather too low.
        """
        even = np.sqrt(s2cells.areas_km2(self.ids) / 6)
        return np.where(np.isnan(self.spread_km), even, self.spread_km)

    def locate(self, longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> Indices:
        """Return the class index of the cell of each point, shape [k]; -1 outside all cells."""
        return self.holders(s2cells.leaf_ids(longitude, latitude))

    def holders(self, ids: Ids) -> Indices:
        """Return the class index of each id's ancestor (or itself) here; -1 where there is none."""
        if not len(self):
            return np.full(len(ids), -1, np.int32)
        order = np.argsort(self.ids)
        first, last = s2cells.range_of(self.ids[order])
        # Cells are disjoint ranges, so only the last range that starts before an id can contain it.
        low, high = s2cells.range_of(ids)
        at = np.searchsorted(first, low, side="right") - 1
        inside = (at >= 0) & (last[at] >= high)
        return np.where(inside, order[at], -1).astype(np.int32)

    def means_outside(self) -> Indices:
        """Return the class indices whose mean position lies outside the cell; normally none."""
        at = self.locate(self.longitude, self.latitude)
        return np.flatnonzero(at != np.arange(len(self))).astype(np.int32)


def overlaps(ids: Ids) -> list[tuple[int, int]]:
    """Return pairs of indices (holder, held) of cells where the first contains the other."""
    first, last = s2cells.range_of(ids)
    order = np.lexsort((~last, first))
    first, reach = first[order], np.maximum.accumulate(last[order])
    # Ranges nest or are disjoint, so the first cell that reaches a cell's start contains it.
    holder = np.searchsorted(reach, first)
    held = np.flatnonzero(holder < np.arange(len(ids)))
    return [(int(order[holder[k]]), int(order[k])) for k in held]


def parents(fine: Partition, coarse: Partition) -> Indices:
    """Return the class index of each fine cell's ancestor (or itself) in the coarser partition.

    It is -1 where there is none, as when the two were not built from the same coordinates.
    """
    return coarse.holders(fine.ids)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The three partitions of a network's three heads."""

    coarse: Partition
    middle: Partition
    fine: Partition

    @cached_property
    def fine_to_middle(self) -> Indices:
        """The middle ancestor's class index for each fine cell, or -1."""
        return parents(self.fine, self.middle)

    @cached_property
    def fine_to_coarse(self) -> Indices:
        """The coarse ancestor's class index for each fine cell, or -1."""
        return parents(self.fine, self.coarse)

    @property
    def partitions(self) -> tuple[Partition, Partition, Partition]:
        """Coarse, middle, fine."""
        return self.coarse, self.middle, self.fine

    def decoder(self, calibration: Calibration | None = None) -> Decoder:
        """Return a decoder of scores over these partitions."""
        return Decoder(
            coarse_tokens=np.array(self.coarse.tokens),
            middle_tokens=np.array(self.middle.tokens),
            fine_tokens=np.array(self.fine.tokens),
            fine_to_coarse=self.fine_to_coarse.astype(np.int64),
            fine_to_middle=self.fine_to_middle.astype(np.int64),
            longitude=self.fine.longitude,
            latitude=self.fine.latitude,
            spread_km=self.fine.known_spread_km,
            prior=self.fine.photographs / self.fine.photographs.sum(),
            calibration=calibration,
        )


def with_ancestors(ids: Ids) -> Ids:
    """Return the cells and all their ancestors up to the faces, each once, in the order of ids."""
    found = [np.unique(ids)]
    own = s2cells.levels(found[0])
    for level in range(int(own.max(initial=0)) - 1, -1, -1):
        found.append(np.unique(s2cells.ancestors(found[0][own > level], level)))
    return np.unique(np.concatenate(found))


def cell_table(hierarchy: Hierarchy) -> pa.Table:
    """Return the table of every cell that a release can name: cells and all their ancestors.

    Columns: token, level, parent (token; null for a face), polygon (MultiPolygon as WKB,
    longitude/latitude, WGS 84). Coarser cells come first, so that rows can be inserted in this
    order under a foreign key from parent to token.
    """
    ids = with_ancestors(np.concatenate([p.ids for p in hierarchy.partitions]))
    level = s2cells.levels(ids)
    order = np.lexsort((ids, level))
    ids, level = ids[order], level[order]
    parent: list[str | None] = [None] * int(np.sum(level == 0))
    parent += s2cells.tokens_of(s2cells.ancestors(ids[level > 0], level[level > 0] - 1))
    return pa.table(
        {
            "token": pa.array(s2cells.tokens_of(ids), pa.string()),
            "level": pa.array(level, pa.int16()),
            "parent": pa.array(parent, pa.string()),
            "polygon": pa.array(cell_polygons(ids), pa.binary()),
        }
    )


def partition_table(hierarchy: Hierarchy) -> pa.Table:
    """Return the table of the three partitions, one row for each class.

    Columns: partition, class_index, token, longitude, latitude, photographs, spread_km (null where
    unknown).
    """
    tables = [
        pa.table(
            {
                "partition": pa.array([name] * len(p), pa.string()),
                "class_index": pa.array(range(len(p)), pa.int32()),
                "token": pa.array(p.tokens, pa.string()),
                "longitude": pa.array(p.longitude, pa.float64()),
                "latitude": pa.array(p.latitude, pa.float64()),
                "photographs": pa.array(p.photographs, pa.int64()),
                "spread_km": pa.array(p.spread_km, pa.float64(), from_pandas=True),
            }
        )
        for name, p in zip(LEVELS, hierarchy.partitions, strict=True)
    ]
    return pa.concat_tables(tables)


def write_tables(hierarchy: Hierarchy, directory: Path) -> None:
    """Write ``cells.parquet`` and ``partitions.parquet`` of a release (docs/architecture.md)."""
    pq.write_table(cell_table(hierarchy), directory / "cells.parquet", compression="zstd")
    pq.write_table(partition_table(hierarchy), directory / "partitions.parquet", compression="zstd")


def read_partitions(path: Path) -> Hierarchy:
    """Read the hierarchy from a release's ``partitions.parquet``.

    Raises ValueError where a partition is missing or its class indices are not 0 … n - 1.
    """
    table = pq.read_table(path).sort_by([("partition", "ascending"), ("class_index", "ascending")])
    return Hierarchy(*(_partition_of(table, name, path) for name in LEVELS))


def _partition_of(table: pa.Table, name: str, path: Path) -> Partition:
    rows = table.filter(pa.compute.field("partition") == name)
    column = {c: rows[c].to_numpy() for c in rows.column_names}
    if not rows.num_rows or not np.array_equal(column["class_index"], np.arange(rows.num_rows)):
        raise ValueError(f"{path}: partition {name} is missing or its classes are not 0 to n - 1")
    return Partition(
        name=name,
        tokens=tuple(map(str, rows["token"].to_pylist())),
        longitude=column["longitude"],
        latitude=column["latitude"],
        photographs=column["photographs"],
        spread_km=column["spread_km"].astype(np.float64),
    )
