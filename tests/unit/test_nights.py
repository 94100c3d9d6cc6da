"""Times of a cron expression, before and after the clocks change."""

from datetime import UTC, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.schedules import ScheduleRefused, caught_up, nights
from geotag.schedules.schedule import window_of
from workers.errors import UsageError

BERLIN = "Europe/Berlin"


def local(cron: str, after: str, count: int, timezone: str = BERLIN) -> list[str]:
    """Return the next nights in local time."""
    found = islice(nights(cron, timezone, datetime.fromisoformat(after)), count)
    return [f"{at.astimezone(ZoneInfo(timezone)):%m-%d %H:%M %z}" for at in found]


def test_a_night_is_at_its_local_time_all_year() -> None:
    assert local("0 22 * * *", "2026-03-27T22:00+01:00", 3) == [
        "03-28 22:00 +0100",
        "03-29 22:00 +0200",
        "03-30 22:00 +0200",
    ]
    assert local("0 22 * * *", "2026-10-24T12:00+02:00", 2) == [
        "10-24 22:00 +0200",
        "10-25 22:00 +0100",
    ]


def test_a_skipped_hour_starts_when_the_clock_goes_on() -> None:
    assert local("30 2 * * *", "2026-03-28T12:00+01:00", 2) == [
        "03-29 03:00 +0200",
        "03-30 02:30 +0200",
    ]
    # Both skipped times become 03:00, which is one night.
    assert local("0,30 2 * * *", "2026-03-28T12:00+01:00", 3) == [
        "03-29 03:00 +0200",
        "03-30 02:00 +0200",
        "03-30 02:30 +0200",
    ]


def test_a_repeated_hour_counts_once_at_its_first_time() -> None:
    assert local("30 2 * * *", "2026-10-24T12:00+02:00", 2) == [
        "10-25 02:30 +0200",
        "10-26 02:30 +0100",
    ]
    # Asked for between the two hours, and within the second.
    for after in ("2026-10-25T02:45+02:00", "2026-10-25T02:15+01:00", "2026-10-25T02:45+01:00"):
        assert local("30 2 * * *", after, 1) == ["10-26 02:30 +0100"]


def test_hourly_expressions_follow_elapsed_time() -> None:
    assert local("0 * * * *", "2026-10-25T01:30+02:00", 4) == [
        "10-25 02:00 +0200",
        "10-25 02:00 +0100",
        "10-25 03:00 +0100",
        "10-25 04:00 +0100",
    ]


@pytest.mark.parametrize(
    ("cron", "timezone", "said"),
    [
        ("0 22 * *", BERLIN, "five fields"),
        ("0 0 22 * * *", BERLIN, "five fields"),
        ("0 25 * * *", BERLIN, "Bad hour"),
        ("@daily", BERLIN, "five fields"),
        ("0 0 31 2 *", BERLIN, "Bad day-of-month"),
        ("0 22 * * *", "Europe/Atlantis", "no time zone"),
        ("0 22 * * *", "../../etc/passwd", "no time zone"),
        ("0 22 * * *", "", "no time zone"),
    ],
)
def test_invalid_expressions_are_refused(cron: str, timezone: str, said: str) -> None:
    with pytest.raises(ScheduleRefused, match=said):
        next(nights(cron, timezone, datetime(2026, 1, 1, tzinfo=UTC)))


CRONS = st.sampled_from(
    ["0 22 * * *", "30 2 * * *", "*/20 * * * *", "0 3 * * 1", "15 1,2,3 * * *", "0 0 1 * *"]
)
ZONES = st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


@given(CRONS, ZONES, MOMENTS)
def test_nights_are_in_order_and_independent_of_the_time_of_asking(
    cron: str, zone: str, moment: datetime
) -> None:
    found = list(islice(nights(cron, zone, moment), 12))
    assert moment < found[0]
    assert found == sorted(set(found))
    for before, night in pairwise(found):
        assert next(nights(cron, zone, before)) == night
        assert next(nights(cron, zone, night - timedelta(seconds=1))) == night


@given(CRONS, ZONES, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_only_the_last_missed_night_is_caught_up(
    cron: str, zone: str, moment: datetime, off: timedelta
) -> None:
    due = next(nights(cron, zone, moment))
    now = due + off
    night, after = caught_up(cron, zone, due, now)
    assert due <= night <= now < after
    assert next(nights(cron, zone, night)) == after


def test_window() -> None:
    assert window_of("22:00-06:00") == (time(22), time(6))
    assert window_of("9:30 - 17:00") == (time(9, 30), time(17))


@pytest.mark.parametrize("text", ["22-06", "22:00-24:00", "22:00", "22:00-06:00x", "06:00-06:00"])
def test_invalid_windows_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="window"):
        window_of(text)
