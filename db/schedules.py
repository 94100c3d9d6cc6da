"""Schedules: which nights are due, and which runs a planner has to see to.

SQL decides what is due (`next_at <= now`), and time is a parameter: nothing here reads a clock. A
night is a run with `scheduled_for`, unique for its archive, made in the transaction that moves the
schedule on: however many beats tick, at once or again, it is made once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from db.engine import sql

_FIELDS = 5
_LONGEST_PAUSE = timedelta(minutes=15)


class ScheduleRefused(Exception):
    """A schedule cannot be as it was asked for; the message says why."""


class NotScheduled(Exception):
    """The archive has no schedule."""


class NotPaused(Exception):
    """The schedule is not paused: there is nothing to resume."""


@dataclass(frozen=True)
class ScheduleSpec:
    """What is wanted for an archive's nights.

    Args:
        cron: five fields, in local time: minute, hour, day of the month, month, day of the week.
        timezone: IANA's name of the zone of `cron` and of the window.
        opens: when a run's chunks may be published from, local time; None is always.
        closes: until when; before `opens` it is on the day after.
        most: objects a night; None is all.
        release: that is to answer; None is whichever is active when the night comes.
    """

    cron: str
    timezone: str
    opens: time | None = None
    closes: time | None = None
    most: int | None = None
    release: str | None = None


@dataclass(frozen=True)
class Schedule(ScheduleSpec):
    """An archive's schedule as it stands, with the night it is due for and the last one."""

    archive: str = ""
    next_at: datetime = datetime.max
    paused_at: datetime | None = None
    last_run_id: int | None = None
    last_night: datetime | None = None


@dataclass(frozen=True)
class Night:
    """A night of an archive that has come, its run, and what came of it, in objects."""

    scheduled_for: datetime
    run_id: int
    planned: int = 0
    done: int = 0
    failed: int = 0


def nights(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The nights after a moment, in order, in UTC.

    As Debian's cron has it: a time of day that the clock skips comes when the clock goes on (02:30
    at 03:00), and one that comes twice counts the first time. Where minutes or hours begin with a
    `*` it is elapsed time that counts.

    Raises:
        ScheduleRefused: the expression or the zone cannot be read.
    """
    if len(cron.split()) != _FIELDS:
        raise ScheduleRefused(f"cron {cron!r}: five fields are wanted, such as '0 22 * * *'")
    try:
        zone = ZoneInfo(timezone)
        found = CronSim(cron, after.astimezone(zone))
    except CronSimError as error:
        raise ScheduleRefused(f"cron {cron!r}: {error}") from error
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleRefused(f"no time zone {timezone!r}: such as Europe/Berlin, UTC") from error
    for local in found:
        night = local.astimezone(UTC)
        if night > after:  # a skipped hour may hold several
            yield night
            after = night


def caught_up(cron: str, timezone: str, due: datetime, now: datetime) -> tuple[datetime, datetime]:
    """Of the nights from `due` to `now` the last one, which stands for all, and the night to come.

    Raises:
        ScheduleRefused: the expression never comes true (again).
    """
    for night in nights(cron, timezone, due):
        if night > now:
            return due, night
        due = night
    raise ScheduleRefused(f"cron {cron!r} has no next night")


def add(engine: Engine, archive: str, plan: ScheduleSpec, now: datetime) -> datetime:
    """Schedule an archive; returns its first night.

    Raises:
        ScheduleRefused: the plan cannot be read, or the archive has a schedule already, or there is
            no such archive or release.
    """
    first = next(nights(plan.cron, plan.timezone, now), None)
    if first is None:
        raise ScheduleRefused(f"cron {plan.cron!r} never comes true")
    with engine.begin() as connection:
        archive_id = connection.execute(
            # Locked: who removes the archive at this moment must find its schedule.
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


def schedules(engine: Engine, archive: str | None = None) -> list[Schedule]:
    """Every schedule, or that of one archive."""
    with engine.connect() as connection:
        rows = connection.execute(sql("schedules"), {"archive": archive})
        return [Schedule(**row._mapping) for row in rows]


def last_nights(engine: Engine, archive: str, most: int) -> list[Night]:
    """The last nights of an archive, the oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(sql("last_nights"), {"archive": archive, "most": most})
        return [Night(**row._mapping) for row in rows][::-1]


def pause(engine: Engine, archive: str, now: datetime) -> None:
    """Let nights pass until it is resumed. The run of the last night goes on.

    Raises:
        NotScheduled: the archive has no schedule.
    """
    _change(engine, archive, "UPDATE geotag.schedule SET paused_at = coalesce(paused_at, :at)", now)


def resume(engine: Engine, archive: str, now: datetime) -> datetime:
    """Go on with the next night, which is returned: those that were let pass are not caught up.

    Raises:
        NotScheduled: the archive has no schedule.
        NotPaused: it is not paused, and a night that is due stays due.
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
        after = next(nights(found.cron, found.timezone, now))
        connection.execute(
            text(
                "UPDATE geotag.schedule SET paused_at = NULL, next_at = :after"
                " WHERE archive_id = :id"
            ),
            {"id": found.archive_id, "after": after},
        )
    return after


def remove(engine: Engine, archive: str) -> None:
    """Have no more nights. Those that were stay, and the run of the last one goes on.

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
    """Make the runs of the nights that have come; several that were missed are one."""
    started = []
    with engine.begin() as connection:
        for row in connection.execute(sql("due_schedules"), {"now": now}).all():
            night, after = caught_up(row.cron, row.timezone, row.next_at, now)
            given = {"archive_id": row.archive_id, "night": night, "next_at": after}
            run_id = connection.execute(sql("start_night"), given).scalar_one_or_none()
            if run_id is not None:
                started.append(Night(night, run_id))
            connection.execute(
                text(
                    "UPDATE geotag.schedule SET next_at = :next_at WHERE archive_id = :archive_id"
                ),
                given,
            )
    return started


def next_plan(engine: Engine, now: datetime) -> int | None:
    """A run that is to be planned, or planned on, and that no planner holds."""
    with engine.begin() as connection:
        found = connection.execute(sql("next_plan"), {"now": now}).scalar_one_or_none()
        return None if found is None else int(found)


def plan_failed(engine: Engine, run_id: int, reason: str, now: datetime) -> datetime:
    """Note why a run could not be planned; returns when to try again: at most 15 minutes on."""
    with engine.begin() as connection:
        tries = connection.execute(
            text(
                "UPDATE geotag.run SET plan_tries = plan_tries + 1, plan_error = :reason"
                " WHERE id = :id RETURNING plan_tries"
            ),
            {"id": run_id, "reason": reason},
        ).scalar_one()
        again: datetime = now + min(_LONGEST_PAUSE, timedelta(minutes=1) * 2 ** min(tries - 1, 10))
        connection.execute(
            text("UPDATE geotag.run SET plan_after = :again WHERE id = :id"),
            {"id": run_id, "again": again},
        )
    return again
