"""Register, pause, resume and remove archives.

An archive is a prefix of a bucket at an S3 endpoint. Registered archives do not overlap, so every
object belongs to at most one. A removed archive keeps its objects and results. Re-registering the
same prefix under the same name restores it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from db.engine import sql


@dataclass(frozen=True)
class ArchiveRecord:
    """An archive's location, and how it is read.

    Args:
        name: unique, for people.
        endpoint: URL of the S3 service; `""` is AWS itself.
        bucket, prefix: of its keys; the prefix may be `""`.
        region: that requests are signed for; None is the settings' region.
        credentials: a reference: `settings`, `chain`, `profile:…`, `role:…` or `env:…`.
        include, exclude: globs that an object's key below the prefix must and must not match.
        allow_private: whether its endpoint may have a private address and use plain HTTP.
    """

    name: str
    endpoint: str
    bucket: str
    prefix: str = ""
    region: str | None = None
    credentials: str = "settings"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_private: bool = False

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class RegisteredArchive(ArchiveRecord):
    """An archive with its row in the ledger."""

    id: int = 0
    registered_at: datetime | None = None
    paused_at: datetime | None = None
    removed_at: datetime | None = None


@dataclass(frozen=True)
class Counts:
    """Counts of an archive's current objects by state."""

    objects: int
    pending: int
    failed: int
    vanished: int
    last_listed_at: datetime | None


class ArchiveConflict(Exception):
    """An archive cannot be registered; the message gives the conflict."""


class ArchiveUnknown(Exception):
    """No archive of that name is registered."""


def add(engine: Engine, archive: ArchiveRecord) -> RegisteredArchive:
    """Register an archive, or restore a removed one with these settings.

    Raises:
        ArchiveConflict: another archive has its name, or has keys in common with it.
    """
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE geotag.archive IN SHARE ROW EXCLUSIVE MODE"))
        known = {found.name: found for found in _all(connection)}
        _refuse_conflicts(known, archive)
        values = {
            "name": archive.name,
            "endpoint": archive.endpoint,
            "bucket": archive.bucket,
            "prefix": archive.prefix,
            "region": archive.region,
            "credentials": archive.credentials,
            "include": list(archive.include),
            "exclude": list(archive.exclude),
            "allow_private": archive.allow_private,
        }
        return _archive(connection.execute(sql("register_archive"), values).one())


def _refuse_conflicts(known: dict[str, RegisteredArchive], archive: ArchiveRecord) -> None:
    where = (archive.endpoint, archive.bucket, archive.prefix)
    namesake = known.get(archive.name)
    if namesake and (namesake.endpoint, namesake.bucket, namesake.prefix) != where:
        if namesake.removed_at:
            raise ArchiveConflict(
                f"the name {archive.name} is kept for the results of {namesake.url}, which was"
                " removed: choose another"
            )
        raise ArchiveConflict(
            f"an archive {archive.name} is registered, at {namesake.url}: choose another name, or"
            f" geotag archive remove {archive.name}"
        )
    if namesake and not namesake.removed_at:
        raise ArchiveConflict(
            f"the archive {archive.name} is registered already; to change how it is read,"
            f" geotag archive remove {archive.name} (its results stay) and add it again"
        )
    for other in known.values():
        if (other.endpoint, other.bucket) != where[:2] or other.name == archive.name:
            continue
        if other.removed_at and other.prefix == archive.prefix:
            raise ArchiveConflict(
                f"{archive.url} was registered as {other.name} and has results under that name:"
                f" add it as {other.name} again"
            )
        if not other.removed_at and (
            other.prefix.startswith(archive.prefix) or archive.prefix.startswith(other.prefix)
        ):
            raise ArchiveConflict(
                f"{archive.url} and the archive {other.name} ({other.url}) have keys in common"
            )


def registered(engine: Engine, *, removed: bool = False) -> list[RegisteredArchive]:
    """Return the archives, sorted by name; with `removed`, the removed ones too."""
    with engine.connect() as connection:
        return [a for a in _all(connection) if removed or a.removed_at is None]


def by_name(engine: Engine, name: str) -> RegisteredArchive:
    """Return the registered archive of a name.

    Raises:
        ArchiveUnknown: no archive of that name is registered.
    """
    for archive in registered(engine):
        if archive.name == name:
            return archive
    raise ArchiveUnknown(name)


def by_id(connection: Connection, archive_id: int) -> RegisteredArchive:
    """Return an archive by its id, removed or not."""
    return _archive(
        connection.execute(
            text("SELECT * FROM geotag.archive WHERE id = :id"), {"id": archive_id}
        ).one()
    )


def covering(
    archives: Sequence[RegisteredArchive], bucket: str, key: str
) -> list[RegisteredArchive]:
    """Return the archives that a key of a bucket belongs to: at most one for each endpoint."""
    return [a for a in archives if a.bucket == bucket and key.startswith(a.prefix)]


def pause(engine: Engine, name: str) -> None:
    """Stop planning and publishing for an archive. Published chunks are finished."""
    with engine.begin() as connection:
        _set(connection, name, "paused_at = coalesce(paused_at, now())")


def resume(engine: Engine, name: str) -> None:
    """Resume planning and publishing for an archive."""
    with engine.begin() as connection:
        _set(connection, name, "paused_at = NULL")


def remove(engine: Engine, name: str) -> None:
    """Remove an archive and its schedule. Its objects and results stay."""
    with engine.begin() as connection:
        archive_id = _set(connection, name, "removed_at = now(), paused_at = NULL")
        connection.execute(
            text("DELETE FROM geotag.schedule WHERE archive_id = :id"), {"id": archive_id}
        )


def counts(engine: Engine, archive_id: int) -> Counts:
    """Count an archive's objects; pending and failed are of the active release."""
    with engine.connect() as connection:
        row = connection.execute(sql("archive_counts"), {"archive_id": archive_id}).one()
    return Counts(**row._mapping)


def _set(connection: Connection, name: str, change: str) -> int:
    """Change a registered archive and return its id."""
    changed: int | None = connection.execute(
        text(
            f"UPDATE geotag.archive SET {change} WHERE name = :name AND removed_at IS NULL"
            " RETURNING id"
        ),
        {"name": name},
    ).scalar_one_or_none()
    if changed is None:
        raise ArchiveUnknown(name)
    return changed


def _all(connection: Connection) -> list[RegisteredArchive]:
    rows = connection.execute(text("SELECT * FROM geotag.archive ORDER BY name"))
    return [_archive(row) for row in rows]


def _archive(row: Row[Any]) -> RegisteredArchive:
    lists = {"include": tuple(row.include), "exclude": tuple(row.exclude)}
    return RegisteredArchive(**{**row._mapping, **lists})
