"""A command that names a run reads the answers of that run's release."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.reads import ResultRow, RunProgress, run_progress
from geotag.context import Context
from geotag.releases import lifecycle
from geotag.runs import run as jobs
from geotag.runs.watch import watch
from tests.conftest import Geotag
from tests.images import good_files
from tests.integration.test_releases import NAME, SECOND, second  # noqa: F401
from tests.stack_helpers import distinct_pictures, parsed, results, upload
from triton_models.release.release import RELEASES, Release
from workers.broker.app import BACKFILL


@pytest.fixture
def two_releases(running: Context, second: Release) -> Iterator[Context]:  # noqa: F811
    """A stack that knows two releases, of which `untrained` is active."""
    lifecycle.register(running, second.directory)
    lifecycle.activate(running, NAME)
    yield running
    lifecycle.activate(running, NAME)


def run_over(context: Context, geotag: Geotag, bucket: str) -> int:
    """Run over a bucket; return the run's id."""
    assert geotag("run", f"s3://{bucket}/").returncode == 0
    return max(run.id for run in run_progress(context.engine, None) if bucket in run.source)


Answers = dict[str, ResultRow]


@pytest.fixture
def two_runs(
    two_releases: Context, geotag: Geotag, bucket: str
) -> tuple[tuple[int, Answers], tuple[int, Answers]]:
    """A run under each of two releases over the same pictures, with its answers by key."""
    upload(two_releases, bucket, distinct_pictures(good_files()["plain.jpg"], 2))
    old = run_over(two_releases, geotag, bucket)
    before = results(two_releases, bucket)
    lifecycle.activate(two_releases, SECOND)
    new = run_over(two_releases, geotag, bucket)
    after = results(two_releases, bucket)
    assert {row.release for row in before.values()} == {NAME}
    assert {row.release for row in after.values()} == {SECOND}
    return (old, before), (new, after)


def test_an_old_run_keeps_its_results_after_an_activation(
    two_runs: tuple[tuple[int, Answers], tuple[int, Answers]], geotag: Geotag
) -> None:
    for run, rows in two_runs:
        said = parsed(geotag("results", "--run", str(run), "-f", "json"))
        assert {record["key"]: record["release"] for record in said} == {
            key: row.release for key, row in rows.items()
        }
    (old, _rows), _new = two_runs
    named = parsed(geotag("results", "--run", str(old), "--release", SECOND, "-f", "json"))
    assert {record["release"] for record in named} == {SECOND}


def test_an_old_run_is_scored_with_its_own_answers(
    two_runs: tuple[tuple[int, Answers], tuple[int, Answers]], geotag: Geotag, tmp_path: Path
) -> None:
    for run, rows in two_runs:
        truth = tmp_path / f"{run}.csv"
        with truth.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("file", "longitude", "latitude"))
            table.writerows((key, row.longitude, row.latitude) for key, row in rows.items())
        scored = parsed(geotag("evaluate", "--run", str(run), "--truth", str(truth), "-f", "json"))
        (system,) = scored["systems"]
        assert system["n"] == 2
        assert system["accuracy"]["1"] == 100  # its own answers are the truth here


def test_what_a_run_has_not_answered_is_pending_whatever_another_release_says(
    two_releases: Context, geotag: Geotag, bucket: str
) -> None:
    upload(two_releases, bucket, distinct_pictures(good_files()["plain.jpg"], 1))
    old = run_over(two_releases, geotag, bucket)
    lifecycle.activate(two_releases, SECOND)
    # Planned and not published: no worker can answer before the question.
    source = jobs.source_of(two_releases, f"s3://{bucket}/")
    planned = two_releases.planner().plan(source, BACKFILL)
    said = parsed(geotag("results", "--run", str(planned.run_id), "-f", "json"))
    assert [(record["state"], record["release"]) for record in said] == [("pending", None)]
    said = parsed(geotag("results", "--run", str(old), "-f", "json"))
    assert [record["release"] for record in said] == [NAME]
    assert geotag("cancel", str(planned.run_id)).returncode == 0


def test_locate_shows_the_answer_of_its_own_run_after_an_activation(
    two_releases: Context, geotag: Geotag, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(two_releases, bucket, distinct_pictures(good_files()["plain.jpg"], 1))
    lifecycle.activate(two_releases, SECOND)
    run_over(two_releases, geotag, bucket)
    second_says = results(two_releases, bucket)
    lifecycle.activate(two_releases, NAME)

    def watch_and_activate(*given: Any, **named: Any) -> RunProgress:
        ended = watch(*given, **named)
        lifecycle.activate(two_releases, SECOND)
        return ended

    monkeypatch.setattr(jobs, "watch", watch_and_activate)
    (said,) = parsed(geotag("locate", f"s3://{bucket}/p/0000.jpg", "-f", "json"))
    assert results(two_releases, bucket) == second_says  # it is the active one now
    assert (said["state"], said["release"]) == ("geotagged", NAME)
    assert said["prediction"]["release_digest"] == Release.load(RELEASES / NAME).digest
    fine = said["prediction"]["cells"][2]
    assert said["candidates"][0]["token"] == fine["token"]  # of the same release
