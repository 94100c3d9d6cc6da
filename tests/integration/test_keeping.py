"""The control loop on the real stack: nights, lost messages, and pausing or cancelling runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection
from sqlalchemy import text

from deploy.local import stack
from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import (
    distinct_pictures,
    inferences,
    outcomes_of,
    parsed,
    results,
    scalar,
    until,
    upload,
)
from workers.broker.app import BACKFILL, queued

OBJECTS = 40


@pytest.fixture
def pictures(running: Context, bucket: str) -> str:
    """A bucket of photographs whose bytes occur in no other test."""
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], OBJECTS, prefix=bucket))
    return bucket


@pytest.fixture
def beat(running: Context) -> Iterator[None]:
    """Run beat, as outside of tests."""
    stack.start_service(running.settings.stack, "beat")
    yield
    stack.stop_service(running.settings.stack, "beat")


@pytest.fixture
def no_backfill(running: Context) -> Iterator[None]:
    """Stop the backfill workers until the test ends or starts them: messages stay queued."""
    stack.stop_service(running.settings.stack, "worker-backfill")
    yield
    stack.start_service(running.settings.stack, "worker-backfill")


def done(context: Context, bucket: str) -> bool:
    found = results(context, bucket)
    return len(found) == OBJECTS and {row.state for row in found.values()} == {"geotagged"}


def runs_of(context: Context, bucket: str) -> list[dict[str, object]]:
    query = (
        "SELECT r.* FROM geotag.run r JOIN geotag.archive a ON a.id = r.archive_id"
        " WHERE a.bucket = :bucket ORDER BY r.id"
    )
    with context.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), {"bucket": bucket}).mappings()]


def test_everything_completes_after_the_broker_was_wiped(
    running: Context, pictures: str, geotag: Geotag, no_backfill: None, beat: None
) -> None:
    before = inferences(running)
    assert geotag("run", f"s3://{pictures}", "--no-wait").returncode == 0
    until(lambda: queued(running.app, BACKFILL) == OBJECTS // 8)
    url = running.settings.worker.broker_url.get_secret_value()
    with Connection(url) as connection:
        connection.default_channel.client.flushall()
    assert queued(running.app, BACKFILL) == 0
    stack.start_service(running.settings.stack, "worker-backfill")

    until(lambda: done(running, pictures), seconds=240)

    assert set(outcomes_of(running, pictures).values()) == {1}
    assert inferences(running) == before + OBJECTS


def test_two_beats_start_a_night_once(
    running: Context, pictures: str, geotag: Geotag, beat: None
) -> None:
    """A second beat runs beside the supervised one, which is killed."""
    added = geotag(
        "schedule", "add", pictures, "--cron", "0 22 * * *", "--timezone", "Europe/Berlin"
    )
    assert added.returncode == 0, added.stderr
    second = subprocess.Popen(
        [str(Path(sys.executable).with_name("geotag")), "beat"], env=os.environ
    )
    try:
        with running.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE geotag.schedule s SET next_at = now() - interval '3 days'"
                    " FROM geotag.archive a WHERE a.id = s.archive_id AND a.bucket = :bucket"
                ),
                {"bucket": pictures},
            )
        stack.kill_service(running.settings.stack, "beat")
        until(lambda: done(running, pictures), seconds=240)
    finally:
        second.terminate()
        second.wait(30)

    (night,) = runs_of(running, pictures)
    assert night["planned_at"] is not None
    (shown,) = parsed(geotag("schedule", "show", pictures, "--format", "json"))
    assert shown["last_run_id"] == night["id"]
    of_nights = [
        (entry["run_id"], entry["planned"], entry["done"], entry["failed"])
        for entry in shown["nights"]
        if "run_id" in entry
    ]
    assert of_nights == [(night["id"], OBJECTS, OBJECTS, 0)]
    listed = parsed(geotag("schedule", "list", "--format", "json"))
    assert pictures in [schedule["archive"] for schedule in listed]
    assert geotag("schedule", "remove", pictures).returncode == 0


def test_control_loop_plans_the_run_of_a_killed_planner(
    running: Context, pictures: str, beat: None
) -> None:
    """A `geotag run` opened its run two minutes ago and died."""
    with running.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO geotag.run (source, queue, release_id, archive_id, created_at)"
                " SELECT 's3://' || a.bucket || '/', 'backfill', l.id, a.id,"
                " now() - interval '2 minutes'"
                " FROM geotag.archive a, geotag.release l WHERE a.bucket = :bucket AND l.active"
            ),
            {"bucket": pictures},
        )
    until(lambda: done(running, pictures), seconds=240)


def test_run_is_paused_resumed_and_cancelled(
    running: Context, pictures: str, geotag: Geotag, no_backfill: None
) -> None:
    environment = {"GEOTAG_MOST_QUEUED": "2"}
    assert geotag("run", f"s3://{pictures}", "--no-wait", **environment).returncode == 0
    (run,) = runs_of(running, pictures)
    published = (
        "SELECT count(*) FROM geotag.chunk WHERE run_id = :run AND published_at IS NOT NULL"
        " AND finished_at IS NULL"
    )
    assert scalar(running, published, run=run["id"]) == 2  # of five: the others are not published

    paused = geotag("pause", str(run["id"]))
    assert paused.returncode == 0, paused.stderr
    assert f"0 of {OBJECTS} objects done" in paused.stderr
    assert scalar(running, published, run=run["id"]) == 0
    running.publisher().round()
    assert scalar(running, published, run=run["id"]) == 0

    assert geotag("resume", str(run["id"])).returncode == 0
    running.publisher().round()
    assert scalar(running, published, run=run["id"]) == OBJECTS // 8

    cancelled = geotag("cancel", str(run["id"]))
    assert cancelled.returncode == 0, cancelled.stderr
    stack.start_service(running.settings.stack, "worker-backfill")
    until(lambda: queued(running.app, BACKFILL) == 0)  # the recalled messages are dropped
    assert {row.state for row in results(running, pictures).values()} == {"pending"}
    assert geotag("run", f"s3://{pictures}").returncode == 0
    assert done(running, pictures)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "999999999"),
        ("cancel", "999999999"),
        ("resume", "0"),
        ("schedule", "add", "no-such", "--cron", "0 22 * * *"),
        ("schedule", "add", "photos", "--cron", "often"),
        ("schedule", "add", "photos", "--cron", "0 22 * * *", "--timezone", "Mars"),
        ("schedule", "add", "photos", "--cron", "0 22 * * *", "--window", "late"),
        ("schedule", "add", "photos", "--cron", "0 22 * * *", "--max", "0"),
        ("schedule", "pause", "no-such"),
        ("schedule", "show", "no-such"),
        ("worker", "--queue", "no-such"),
        ("beat", "--log-level", "LOUD"),
    ],
)
def test_wrong_usage_is_explained_in_one_sentence(
    geotag: Geotag, arguments: tuple[str, ...]
) -> None:
    refused = geotag(*arguments)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stderr.strip()
