"""A command that names a run reads the answers of that run's release."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.reads import run_progress
from geotag.context import Context
from geotag.releases import lifecycle
from tests.conftest import Geotag
from tests.images import good_files
from tests.integration.test_releases import NAME, SECOND, second  # noqa: F401
from tests.stack_helpers import distinct_pictures, results, upload
from triton_models.release.release import Release


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


def test_an_old_run_keeps_its_answers_after_an_activation(
    two_releases: Context, geotag: Geotag, bucket: str, tmp_path: Path
) -> None:
    upload(two_releases, bucket, distinct_pictures(good_files()["plain.jpg"], 2))
    old = run_over(two_releases, geotag, bucket)
    before = results(two_releases, bucket)
    lifecycle.activate(two_releases, SECOND)
    new = run_over(two_releases, geotag, bucket)
    after = results(two_releases, bucket)
    assert {row.release for row in before.values()} == {NAME}
    assert {row.release for row in after.values()} == {SECOND}

    for run, rows in ((old, before), (new, after)):
        printed = geotag("results", "--run", str(run), "-f", "json").stdout
        said = {record["key"]: record for record in json.loads(printed)}
        assert {key: record["release"] for key, record in said.items()} == {
            key: row.release for key, row in rows.items()
        }
        truth = tmp_path / f"{run}.csv"
        with truth.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("file", "longitude", "latitude"))
            table.writerows((key, row.longitude, row.latitude) for key, row in rows.items())
        scored = geotag("evaluate", "--run", str(run), "--truth", str(truth), "-f", "json")
        system = json.loads(scored.stdout)["systems"][0]
        assert system["n"] == 2
        assert system["accuracy"]["1"] == 100  # its own answers are the truth here

    named = geotag("results", "--run", str(old), "--release", SECOND, "-f", "json").stdout
    assert {record["release"] for record in json.loads(named)} == {SECOND}


def test_what_a_run_has_not_answered_is_pending_whatever_others_say(
    two_releases: Context, geotag: Geotag, bucket: str
) -> None:
    upload(two_releases, bucket, distinct_pictures(good_files()["plain.jpg"], 1))
    run_over(two_releases, geotag, bucket)
    lifecycle.activate(two_releases, SECOND)
    queued = geotag("run", f"s3://{bucket}/", "--no-wait")
    assert queued.returncode == 0
    run = max(r.id for r in run_progress(two_releases.engine, None) if bucket in r.source)
    geotag("cancel", str(run))
    printed = geotag("results", "--run", str(run), "-f", "json").stdout
    assert NAME not in {record["release"] for record in json.loads(printed)}
