"""Migrations of a database that has rows: none is lost, and functions work at each revision."""

from typing import Any

from sqlalchemy import Engine, text

from db import migrate
from tests.integration.test_schema import definitions, scratch

__all__ = ["scratch"]

_ROWS = (
    "SET session_replication_role = replica",  # the release has no partitions
    "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
    " middle_partition_id, fine_partition_id, manifest, active)"
    " VALUES ('one', repeat('0', 64), false, 1, 2, 3, '{}', true)",
    "INSERT INTO geotag.archive (name, endpoint, bucket) VALUES ('a', '', 'b')",
    "INSERT INTO geotag.run (source, queue, release_id, archive_id, scheduled_for, opens, closes,"
    " timezone, plan_tries, plan_error) SELECT 's3://b/', 'backfill', l.id, a.id, now(), '00:00',"
    " '23:59:59.999999', 'UTC', 3, 's3_unavailable: S3' FROM geotag.release l, geotag.archive a",
    "INSERT INTO geotag.schedule (archive_id, cron, timezone, next_at)"
    " SELECT id, '0 22 * * *', 'Europe/Berlin', now() FROM geotag.archive",
)


def kept(engine: Engine) -> Any:
    """Return what the rows say, and whether the run's window is open."""
    query = (
        "SELECT r.source, r.plan_tries, r.plan_error, s.cron, geotag.is_open(r, a, now())"
        " FROM geotag.run r JOIN geotag.archive a ON a.id = r.archive_id"
        " JOIN geotag.schedule s ON s.archive_id = a.id"
    )
    with engine.connect() as connection:
        return tuple(connection.execute(text(query)).one())


def test_parking_and_warnings_come_and_go_around_rows(scratch: Engine) -> None:
    migrate.upgrade(scratch, "0005")
    before = definitions(scratch)
    with scratch.begin() as connection:
        for statement in _ROWS:
            connection.execute(text(statement))
    rows = ("s3://b/", 3, "s3_unavailable: S3", "0 22 * * *", True)
    assert kept(scratch) == rows

    migrate.upgrade(scratch)
    assert kept(scratch) == rows
    with scratch.begin() as connection:
        new = "plan_faults, plan_began_at, parked_at, unreadable, plan_warning"
        assert tuple(connection.execute(text(f"SELECT {new} FROM geotag.run")).one()) == (
            *(0, None, None),
            *(0, None),
        )
        connection.execute(text("UPDATE geotag.run SET parked_at = now()"))
        connection.execute(text("UPDATE geotag.schedule SET error = 'none'"))

    migrate.downgrade(scratch, "0005")
    assert (kept(scratch), definitions(scratch)) == (rows, before)
    migrate.upgrade(scratch)
    assert kept(scratch) == rows


def test_no_name_of_a_zone_raises(scratch: Engine) -> None:
    migrate.upgrade(scratch)
    names = (
        "",
        " ",
        "Mars/Olympus_Mons",
        "../UTC",
        "+99",
        "UTC+200",
        "-100:00",
        "x" * 300,
        "é",
        "'",
    )
    with scratch.connect() as connection:
        for name in names:
            query = text("SELECT geotag.local_time(now(), :name)")
            connection.execute(query, {"name": name}).scalar_one()
