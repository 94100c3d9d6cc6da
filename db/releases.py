"""Releases in the ledger: cells, partitions, and the active release."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from db.copy import Value, stage
from db.engine import sql

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


@dataclass(frozen=True)
class Registered:
    """A registered release.

    `runs` is the number of its unfinished runs. `scheduled` says whether a schedule names it.
    """

    name: str
    digest: str
    calibrated: bool
    active: bool
    runs: int
    scheduled: bool
    registered_at: datetime


@dataclass(frozen=True)
class Activation:
    """The activation of a release: by whom and when."""

    name: str
    by: str
    at: datetime


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
    """Record a release with its cells; a release that is registered already is unchanged.

    Raises:
        ReleaseNameTaken: a release with another digest has the name.
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


BY_UP = "geotag up"
"""Name in the history of activations where no person chose the release."""


@contextmanager
def activation(engine: Engine) -> Iterator[None]:
    """Take the lock under which the active release, or what Triton serves, is changed."""
    name = {"name": "geotag.activation"}
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), name)
        connection.commit()  # the lock belongs to the session; an open transaction would stay idle
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), name)


def activate_release(engine: Engine, name: str, by: str = BY_UP) -> None:
    """Make a registered release the one of new runs, and record who activated it.

    Raises:
        LookupError: no release of that name is registered.
    """
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.release SET active = false WHERE active AND name <> :name"),
            {"name": name},
        )
        found = connection.execute(
            text("UPDATE geotag.release SET active = true WHERE name = :name RETURNING id"),
            {"name": name},
        ).scalar_one_or_none()
        if found is None:
            raise LookupError(f"no release {name} is registered")
        connection.execute(
            text("INSERT INTO geotag.release_activation (release_id, by) VALUES (:id, :by)"),
            {"id": found, "by": by},
        )


def active_release(engine: Engine) -> tuple[str, str] | None:
    """Return the name and digest of the active release, or None."""
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT name, digest FROM geotag.release WHERE active")
        ).one_or_none()
        return (row.name, row.digest) if row else None


def registered_releases(engine: Engine) -> list[Registered]:
    """Return every release, in the order of registration."""
    with engine.connect() as connection:
        return [Registered(**row) for row in connection.execute(sql("releases")).mappings()]


def activations(engine: Engine) -> list[Activation]:
    """Return all activations, newest first."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT r.name, a.by, a.at FROM geotag.release_activation a"
                " JOIN geotag.release r ON r.id = a.release_id ORDER BY a.id DESC"
            )
        )
        return [Activation(**row) for row in rows.mappings()]


def release_before(engine: Engine) -> str | None:
    """Return the release that was active before the present one; None if there was none."""
    history = activations(engine)
    return next((past.name for past in history if past.name != history[0].name), None)
