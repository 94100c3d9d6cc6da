"""Releases in the ledger: their cells, their partitions, and which one is active."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from db.copy import Value, stage

PARTITIONS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class CellRow:
    """An S2 cell; `parent` is None for a face; polygon as WKB (longitude/latitude, WGS 84)."""

    token: str
    level: int
    parent: str | None
    polygon: bytes


@dataclass(frozen=True)
class PartitionRow:
    """A class of a partition: its cell and the mean position of its photographs."""

    partition: str
    class_index: int
    token: str
    longitude: float
    latitude: float
    photographs: int
    spread_km: float | None


class ReleaseNameTaken(Exception):
    """Another release is registered under this name."""


def register_release(
    engine: Engine,
    *,
    name: str,
    digest: str,
    calibrated: bool,
    manifest: Mapping[str, Any],
    cells: Iterable[CellRow],
    partitions: Iterable[PartitionRow],
) -> None:
    """Record a release with its cells; one that is recorded already is left as it is.

    Raises:
        ReleaseNameTaken: the name belongs to a release of another digest.
    """
    with engine.begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.release', 0))")
        )
        known = connection.execute(
            text("SELECT digest FROM geotag.release WHERE name = :name"), {"name": name}
        ).scalar_one_or_none()
        if known == digest:
            return
        if known is not None:
            raise ReleaseNameTaken(
                f"release {name} is registered with digest {known[:12]}, not {digest[:12]}"
            )
        _insert_cells(connection, cells)
        rows = list(partitions)
        ids = {
            part: _insert_partition(connection, part, [r for r in rows if r.partition == part])
            for part in PARTITIONS
        }
        connection.execute(
            text(
                "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
                " middle_partition_id, fine_partition_id, manifest)"
                " VALUES (:name, :digest, :calibrated, :coarse, :middle, :fine, :manifest)"
            ),
            {
                "name": name,
                "digest": digest,
                "calibrated": calibrated,
                "manifest": json.dumps(manifest),
                **ids,
            },
        )


def _insert_cells(connection: Connection, cells: Iterable[CellRow]) -> None:
    stage(
        connection,
        {"token": "text", "level": "smallint", "parent": "text", "polygon": "bytea"},
        ((c.token, c.level, c.parent, c.polygon) for c in cells),
        name="staged_cell",
    )
    # Coarser first, so that every parent is there before its children.
    connection.execute(
        text(
            "INSERT INTO geotag.s2_cell (token, level, parent, polygon)"
            " SELECT token, level, parent, ST_GeomFromWKB(polygon, 4326)::geography"
            " FROM pg_temp.staged_cell ORDER BY level, token ON CONFLICT (token) DO NOTHING"
        )
    )


def _insert_partition(connection: Connection, name: str, rows: Sequence[PartitionRow]) -> int:
    values: list[tuple[Value, ...]] = [
        (r.class_index, r.token, r.longitude, r.latitude, r.photographs, r.spread_km)
        for r in sorted(rows, key=lambda row: row.class_index)
    ]
    digest = hashlib.sha256(repr(values).encode()).hexdigest()
    found = connection.execute(
        text("SELECT id FROM geotag.partition WHERE digest = :digest"), {"digest": digest}
    ).scalar_one_or_none()
    if found is not None:
        return int(found)
    partition_id = connection.execute(
        text("INSERT INTO geotag.partition (digest, name) VALUES (:digest, :name) RETURNING id"),
        {"digest": digest, "name": name},
    ).scalar_one()
    stage(
        connection,
        {
            "class_index": "int",
            "token": "text",
            "longitude": "float8",
            "latitude": "float8",
            "photographs": "bigint",
            "spread_km": "real",
        },
        values,
        name="staged_partition",
    )
    connection.execute(
        text(
            "INSERT INTO geotag.partition_cell SELECT :id, class_index, token,"
            " ST_SetSRID(ST_MakePoint(longitude, latitude), 4326)::geography, photographs,"
            " spread_km FROM pg_temp.staged_partition"
        ),
        {"id": partition_id},
    )
    return int(partition_id)


def activate_release(engine: Engine, name: str) -> None:
    """Make a registered release the one that new runs ask for.

    Raises:
        LookupError: no release of that name is registered.
    """
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.release SET active = false WHERE active AND name <> :name"),
            {"name": name},
        )
        found = connection.execute(
            text("UPDATE geotag.release SET active = true WHERE name = :name"), {"name": name}
        )
        if found.rowcount == 0:
            raise LookupError(f"no release {name} is registered")


def active_release(engine: Engine) -> tuple[str, str] | None:
    """Name and digest of the active release, or None."""
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT name, digest FROM geotag.release WHERE active")
        ).one_or_none()
        return (row.name, row.digest) if row else None
