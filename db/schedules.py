"""Schedules of nightly runs: add, change and list them, and start the nights that are due.

A schedule is due if `next_at <= now`. Time is a parameter; nothing here reads a clock. A night is a
run with `scheduled_for`, which is unique in its archive. It is made in the transaction that sets
`next_at`, so any number of beats make it once.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from db.engine import sql

log = logging.getLogger(__name__)

_FIELDS = 5
_LONGEST_ERROR = 1000  # characters


class ScheduleRefused(Exception):
    """A schedule is refused; the message says why."""


class NotScheduled(Exception):
    """The archive has no schedule."""


class NotPaused(Exception):
    """The schedule is not paused: there is nothing to resume."""


@dataclass(frozen=True)
class ScheduleSpec:
    """When an archive's nights begin, and what limits them.

    Args:
        cron: five fields, in local time: minute, hour, day of the month, month, day of the week.
        timezone: IANA's name of the zone of `cron` and of the window.
        opens: when a run's chunks may be published from, local time; None is always.
        closes: until when; before `opens` it is on the day after.
        most: objects a night; None is all.
        release: name of the release to use; None is the one that is active when the night begins.
    """

    cron: str
    timezone: str
    opens: time | None = None
    closes: time | None = None
    most: int | None = None
    release: str | None = None


@dataclass(frozen=True)
class Schedule(ScheduleSpec):
    """An archive's schedule as it stands, with its next night and the last one.

    `error` is why the night that is due cannot be started.
    """

    archive: str = ""
    next_at: datetime = datetime.max
    paused_at: datetime | None = None
    error: str | None = None
    last_run_id: int | None = None
    last_night: datetime | None = None


@dataclass(frozen=True)
class Night:
    """A night of an archive that has begun: its run, and counts of the run's objects."""

    scheduled_for: datetime
    run_id: int
    planned: int = 0
    done: int = 0
    failed: int = 0


def zone(name: str) -> ZoneInfo:
    """Return a time zone by IANA's name.

    Raises:
        ScheduleRefused: this host does not know it.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleRefused(
            f"this host knows no time zone {name!r}: such as Europe/Berlin, UTC"
        ) from error


def nights(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The nights after a moment, in order, in UTC.

    As in Debian's cron, a time of day that the clock skips is moved to the end of the gap (02:30 to
    03:00), and a time that comes twice counts once. If minutes or hours begin with a `*`, elapsed
    time counts.

    Raises:
        ScheduleRefused: the expression or the zone cannot be read.
    """
    if len(cron.split()) != _FIELDS:
        raise ScheduleRefused(f"cron {cron!r}: five fields are wanted, such as '0 22 * * *'")
    try:
        found = CronSim(cron, after.astimezone(zone(timezone)))
    except (CronSimError, OverflowError) as error:
        raise ScheduleRefused(f"cron {cron!r}: {error}") from error
    for local in found:
        night = local.astimezone(UTC)
        if night > after:  # a skipped hour may hold several
            yield night
            after = night


def caught_up(cron: str, timezone: str, due: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Return the last night from `due` to `now`, which stands for all of them, and the next night.

    Raises:
        ScheduleRefused: the expression never comes true (again).
    """
    for night in nights(cron, timezone, due):
        if night > now:
            return due, night
        due = night
    raise ScheduleRefused(f"cron {cron!r} has no next night")


def add(engine: Engine, archive: str, plan: ScheduleSpec, now: datetime) -> datetime:
    """Schedule an archive; return its first night.

    Raises:
        ScheduleRefused: the plan is malformed, its time zone is not known to this host and to the
            database, the archive has a schedule, or there is no such archive or release.
    """
    first = _next_night(plan.cron, plan.timezone, now)
    with engine.begin() as connection:
        _require_zone(connection, plan.timezone)
        archive_id = connection.execute(
            # Locked: a concurrent removal of the archive must find its schedule.
            text(
                "SELECT id FROM geotag.archive WHERE name = :name AND removed_at IS NULL FOR SHARE"
            ),
            {"name": archive},
        ).scalar_one_or_none()
        if archive_id is None:
            raise ScheduleRefused(f"no archive {archive}: geotag archive list")
        release_id = connection.execute(
            text("SELECT id FROM geotag.release WHERE name = :name"), {"name": plan.release}
        ).scalar_one_or_none()
        if plan.release is not None and release_id is None:
            raise ScheduleRefused(f"no release {plan.release} is registered")
        try:
            connection.execute(
                text(
                    "INSERT INTO geotag.schedule (archive_id, cron, timezone, opens, closes, most,"
                    " release_id, next_at) VALUES (:archive_id, :cron, :timezone, :opens, :closes,"
                    " :most, :release_id, :next_at)"
                ),
                asdict(plan)
                | {"archive_id": archive_id, "release_id": release_id, "next_at": first},
            )
        except IntegrityError as error:
            raise ScheduleRefused(
                f"{archive} has a schedule: geotag schedule remove {archive}"
            ) from error
    return first


def _next_night(cron: str, timezone: str, now: datetime) -> datetime:
    """Return the first night after a moment; ScheduleRefused if there is none."""
    first = next(nights(cron, timezone, now), None)
    if first is None:
        raise ScheduleRefused(f"cron {cron!r} never comes true")
    return first


def _require_zone(connection: Connection, timezone: str) -> None:
    """Raise ScheduleRefused if PostgreSQL does not know a time zone, which windows need."""
    known = connection.execute(
        text("SELECT geotag.local_time(now(), :timezone)"), {"timezone": timezone}
    )
    if known.scalar_one() is None:
        raise ScheduleRefused(
            f"the database knows no time zone {timezone!r}: such as Europe/Berlin, UTC"
        )


def schedules(engine: Engine, archive: str | None = None) -> list[Schedule]:
    """Return every schedule, or that of one archive."""
    with engine.connect() as connection:
        rows = connection.execute(sql("schedules"), {"archive": archive})
        return [Schedule(**row._mapping) for row in rows]


def last_nights(engine: Engine, archive: str, most: int) -> list[Night]:
    """Return the last nights of an archive, oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sql("last_nights"), {"archive": archive, "most": most})
        return [Night(**row._mapping) for row in rows][::-1]


def pause(engine: Engine, archive: str, now: datetime) -> None:
    """Skip nights until the schedule is resumed. The run of the last night goes on.

    Raises:
        NotScheduled: the archive has no schedule.
    """
    _change(engine, archive, "UPDATE geotag.schedule SET paused_at = coalesce(paused_at, :at)", now)


def resume(engine: Engine, archive: str, now: datetime) -> datetime:
    """Resume a schedule and return its next night. Skipped nights are not caught up.

    Raises:
        NotScheduled: the archive has no schedule.
        NotPaused: it is not paused, and a night that is due stays due.
        ScheduleRefused: there is no next night.
    """
    with engine.begin() as connection:
        found = connection.execute(
            text(
                "SELECT s.* FROM geotag.schedule s JOIN geotag.archive a ON a.id = s.archive_id"
                " WHERE a.name = :name FOR UPDATE OF s"
            ),
            {"name": archive},
        ).one_or_none()
        if found is None:
            raise NotScheduled
        if found.paused_at is None:
            raise NotPaused
        after = _next_night(found.cron, found.timezone, now)
        connection.execute(
            text(
                "UPDATE geotag.schedule SET paused_at = NULL, next_at = :after, error = NULL"
                " WHERE archive_id = :id"
            ),
            {"id": found.archive_id, "after": after},
        )
    return after


def remove(engine: Engine, archive: str) -> None:
    """Remove a schedule. Its earlier nights stay, and the run of the last one goes on.

    Raises:
        NotScheduled: the archive has no schedule.
    """
    _change(engine, archive, "DELETE FROM geotag.schedule")


def _change(engine: Engine, archive: str, what: str, at: datetime | None = None) -> None:
    of_archive = " WHERE archive_id = (SELECT id FROM geotag.archive WHERE name = :name)"
    with engine.begin() as connection:
        changed = connection.execute(text(what + of_archive), {"name": archive, "at": at})
    if not changed.rowcount:
        raise NotScheduled


def start_due(engine: Engine, now: datetime) -> list[Night]:
    """Make the runs of the nights that are due; nights of an archive that were missed are one.

    A schedule whose night cannot be started records the reason and stays due. The others go on.
    """
    started = []
    with engine.begin() as connection:
        for row in connection.execute(sql("due_schedules"), {"now": now}).all():
            try:
                with connection.begin_nested():
                    night = _start(connection, row, now)
            except (ScheduleRefused, SQLAlchemyError) as error:
                # Raises if the connection is lost, which is no error of the schedule.
                _note_error(connection, row.archive_id, error)
            else:
                started += [night] if night else []
    return started


def _start(connection: Connection, due: Row[Any], now: datetime) -> Night | None:
    """Make the run of a schedule's night, and move the schedule on; None if the run is there."""
    night, after = caught_up(due.cron, due.timezone, due.next_at, now)
    given = {"archive_id": due.archive_id, "night": night, "next_at": after}
    run_id = connection.execute(sql("start_night"), given).scalar_one_or_none()
    connection.execute(
        text(
            "UPDATE geotag.schedule SET next_at = :next_at, error = NULL"
            " WHERE archive_id = :archive_id"
        ),
        given,
    )
    return None if run_id is None else Night(night, run_id)


def _note_error(connection: Connection, archive_id: int, error: Exception) -> None:
    """Record why a schedule's night cannot be started, and log it the first time."""
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    given = {"archive_id": archive_id, "error": cause.partition("\n")[0][:_LONGEST_ERROR]}
    changed = connection.execute(
        text(
            "UPDATE geotag.schedule SET error = :error"
            " WHERE archive_id = :archive_id AND error IS DISTINCT FROM :error"
        ),
        given,
    )
    if changed.rowcount:
        log.error("the schedule of archive %(archive_id)d cannot be started: %(error)s", given)


def failing(engine: Engine) -> list[tuple[str, str]]:
    """Return the archives whose night is due and cannot be started, each with the reason."""
    return [(one.archive, one.error) for one in schedules(engine) if one.error]
