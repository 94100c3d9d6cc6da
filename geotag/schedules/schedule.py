"""Parse, change and print schedules: `geotag schedule`."""

import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, time
from itertools import islice
from typing import Any, TypeVar

from db import dispatch, schedules
from db.schedules import Night, NotPaused, NotScheduled, Schedule, ScheduleRefused, ScheduleSpec
from geotag.context import Context
from geotag.formats import ListFormat
from geotag.output import console, errors, plain, write_csv, write_json
from geotag.tables import Column, Row, key_column, print_table
from workers.errors import UsageError

T = TypeVar("T")

RESCHEDULE = "Correct it: geotag schedule remove {archive}, then geotag schedule add {archive}"
"""Advice for a schedule whose night cannot be started."""

_SHOWN = 5
_COLUMNS = (
    key_column("archive"),
    key_column("cron"),
    key_column("time zone"),
    *map(Column, ("window", "at most", "next night", "last run")),
)
_WINDOW = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")


def window_of(text: str) -> tuple[time, time]:
    """Return both ends of a window such as `22:00-06:00`.

    Raises:
        UsageError: the text is not a window.
    """
    match = _WINDOW.fullmatch(text.replace(" ", ""))
    try:
        if match is None:
            raise ValueError
        from_hour, from_minute, to_hour, to_minute = map(int, match.groups())
        opens, closes = time(from_hour, from_minute), time(to_hour, to_minute)
    except ValueError:
        raise UsageError(f"{text} is not a window: give local times such as 22:00-06:00") from None
    if opens == closes:
        raise UsageError("the window is empty: leave --window out for the whole day")
    return opens, closes


def add(context: Context, archive: str, plan: ScheduleSpec) -> None:
    """Schedule an archive and print its first night.

    Raises:
        UsageError: the schedule is refused.
    """
    now = dispatch.clock(context.engine)
    first = _or_usage_error(lambda: schedules.add(context.engine, archive, plan, now), archive)
    errors.print(f"{archive}: first night {_local(first, plan.timezone)}", highlight=False)


def change(context: Context, archive: str, what: str) -> None:
    """Pause, resume or remove a schedule.

    Raises:
        UsageError: the archive has no schedule.
    """
    engine = context.engine
    now = dispatch.clock(engine)
    does: dict[str, Callable[[], datetime | None]] = {
        "pause": lambda: schedules.pause(engine, archive, now),
        "resume": lambda: schedules.resume(engine, archive, now),
        "remove": lambda: schedules.remove(engine, archive),
    }
    _or_usage_error(does[what], archive)
    says = {
        "pause": "paused; a run of an earlier night continues (geotag pause RUN stops it)",
        "resume": "resumed at the next night",
        "remove": "removed; the runs and results of its nights stay",
    }
    errors.print(f"{archive}: {says[what]}", highlight=False)


def _or_usage_error(ask: Callable[[], T], archive: str) -> T:
    try:
        return ask()
    except ScheduleRefused as error:
        raise UsageError(str(error)) from error
    except NotScheduled:
        raise UsageError(f"{archive} has no schedule: geotag schedule add {archive}") from None
    except NotPaused:
        raise UsageError(f"the schedule of {archive} is not paused: geotag schedule list") from None


def print_schedules(context: Context, form: ListFormat, *, wide: bool = False) -> None:
    """Print every schedule."""
    found = schedules.schedules(context.engine)
    if form is ListFormat.JSON:
        write_json(map(_record, found), sys.stdout)
    elif form is ListFormat.CSV:
        names = [*Schedule.__dataclass_fields__]
        write_csv(map(_record, found), names, sys.stdout)
    else:
        rows = [
            (
                one.archive,
                one.cron,
                one.timezone,
                _window(one),
                str(one.most or "all"),
                "paused" if one.paused_at else _local(one.next_at, one.timezone),
                str(one.last_run_id or ""),
            )
            for one in found
        ]
        print_table(_COLUMNS, rows, wide=wide)
        for one in found:
            _print_error(one)


def print_schedule(context: Context, archive: str, form: ListFormat) -> None:
    """Print an archive's schedule, its last nights with their runs, and its next nights.

    Raises:
        UsageError: the archive has no schedule.
    """
    found = schedules.schedules(context.engine, archive)
    if not found:
        raise UsageError(f"{archive} has no schedule: geotag schedule add {archive}")
    (one,) = found
    upcoming = _upcoming(one)
    past = schedules.last_nights(context.engine, archive, _SHOWN)
    if form is not ListFormat.TABLE:
        nights = [asdict(night) for night in past] + [{"scheduled_for": at} for at in upcoming]
        if form is ListFormat.CSV:
            write_csv(map(_plain_values, nights), Night.__dataclass_fields__, sys.stdout)
        else:
            whole = _record(one) | {"nights": [_plain_values(night) for night in nights]}
            write_json([whole], sys.stdout)
        return
    window, most = _window(one), one.most or "all"
    console.print(plain(f"{archive}: {one.cron} ({one.timezone}), window {window}, at most {most}"))
    if one.paused_at:
        console.print("paused: nights are skipped until it is resumed")
    _print_error(one)
    rows: list[Row] = []
    for night in past:
        counts = (night.run_id, night.planned, night.done, night.failed)
        rows.append((_local(night.scheduled_for, one.timezone), *map(str, counts)))
    rows += ((_local(at, one.timezone), "", "", "", "") for at in upcoming)
    columns = ("night", "run", "objects", "done", "failed")
    print_table([*map(Column, columns)], rows)


def _print_error(one: Schedule) -> None:
    """Print why a schedule's night cannot be started, and what to do."""
    if one.error:
        advice = RESCHEDULE.format(archive=one.archive)
        console.print(plain(f"{one.archive}: {one.error}. {advice}"), soft_wrap=True)


def _upcoming(one: Schedule) -> list[datetime]:
    """Return the next nights; none if the schedule is paused or no longer valid."""
    if one.paused_at:
        return []
    try:
        following = schedules.nights(one.cron, one.timezone, one.next_at)
        return [one.next_at, *islice(following, _SHOWN - 1)]
    except ScheduleRefused:
        return []


def _window(one: Schedule) -> str:
    if one.opens is None or one.closes is None:
        return "always"
    return f"{one.opens:%H:%M}-{one.closes:%H:%M}"


def _local(at: datetime, timezone: str) -> str:
    """Return a time in a time zone, or in UTC if this host does not know the zone."""
    try:
        return f"{at.astimezone(schedules.zone(timezone)):%Y-%m-%d %H:%M}"
    except ScheduleRefused:
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _record(one: Schedule) -> dict[str, Any]:
    return _plain_values(asdict(one))


def _plain_values(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in record.items()}
