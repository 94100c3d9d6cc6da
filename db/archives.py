"""Which archives may be read: registered, paused, removed.

An archive is a prefix of a bucket at an S3 endpoint. Those that are registered at one time do not
overlap, so that every object belongs to one archive at most. A removed one keeps its objects and
results, and is what it was when the same place is registered under the same name again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from db.engine import sql


@dataclass(frozen=True)
class ArchiveRecord:
    """Where an archive is and how it is read.

    Args:
        name: unique, for people.
        endpoint: URL of the S3 service; `""` is AWS itself.
        bucket, prefix: what of it is the archive; the prefix may be `""`.
        region: that requests are signed for; None is the settings' one.
        credentials: a reference: `settings`, `chain`, `profile:…`, `role:…`, `env:…`.
        include, exclude: globs that an object's key below the prefix must and must not match.
        allow_private: whether its endpoint may have a private address and speak plain HTTP.
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
    """An archive that is in the ledger."""

    id: int = 0
    registered_at: datetime | None = None
    paused_at: datetime | None = None
    removed_at: datetime | None = None


@dataclass(frozen=True)
class Counts:
    """An archive's objects: those that are there, and how many of them are in which state."""

    objects: int
    pending: int
    failed: int
    vanished: int
    last_listed_at: datetime | None


class ArchiveConflict(Exception):
    """An archive cannot be registered so; the message says what stands in the way."""


class ArchiveUnknown(Exception):
    """No archive of that name is registered."""


def add(engine: Engine, archive: ArchiveRecord) -> RegisteredArchive:
    """Register an archive; one that was removed comes back, with what is said of it now.

    Raises:
        ArchiveConflict: its name is another place's, or its keys are another archive's.
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
    """The archives by name; with those that were removed where they are asked for."""
    with engine.connect() as connection:
        return [a for a in _all(connection) if removed or a.removed_at is None]


def by_name(engine: Engine, name: str) -> RegisteredArchive:
    """A registered archive.

    Raises:
        ArchiveUnknown: there is none of that name.
    """
    for archive in registered(engine):
        if archive.name == name:
            return archive
    raise ArchiveUnknown(name)


def by_id(connection: Connection, archive_id: int) -> RegisteredArchive:
    """An archive by its id, removed or not."""
    return _archive(
        connection.execute(
            text("SELECT * FROM geotag.archive WHERE id = :id"), {"id": archive_id}
        ).one()
    )


def covering(
    archives: Sequence[RegisteredArchive], bucket: str, key: str
) -> list[RegisteredArchive]:
    """Those of the archives that a key of a bucket belongs to: one for each endpoint at most."""
    return [a for a in archives if a.bucket == bucket and key.startswith(a.prefix)]


def pause(engine: Engine, name: str) -> None:
    """Plan and publish nothing more for an archive; what is in flight finishes."""
    with engine.begin() as connection:
        _set(connection, name, "paused_at = coalesce(paused_at, now())")


def resume(engine: Engine, name: str) -> None:
    """Plan and publish for an archive again."""
    with engine.begin() as connection:
        _set(connection, name, "paused_at = NULL")


def remove(engine: Engine, name: str) -> None:
    """Read an archive no more; its objects and results stay, and its schedule goes."""
    with engine.begin() as connection:
        archive_id = _set(connection, name, "removed_at = now(), paused_at = NULL")
        connection.execute(
            text("DELETE FROM geotag.schedule WHERE archive_id = :id"), {"id": archive_id}
        )


def counts(engine: Engine, archive_id: int) -> Counts:
    """An archive's objects, pending and failed ones as the active release has them."""
    with engine.connect() as connection:
        row = connection.execute(sql("archive_counts"), {"archive_id": archive_id}).one()
    return Counts(**row._mapping)


def _set(connection: Connection, name: str, change: str) -> int:
    """Change an archive; returns its id."""
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
