"""Photographs that kill their worker are quarantined, and no others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import (
    attempts,
    distinct_pictures,
    only_backfill_worker,
    outcomes_of,
    results,
    until,
    upload,
)

MARKER = b"kill your reader"
# `geotag worker` with a decoder that dies of the marker, as of a hostile file.
WORKER = f"""
import os, signal
from workers.chunks import pipeline

read_photo = pipeline.read_photo

def deadly(data, *rest):
    if {MARKER!r} in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_photo(data, *rest)

pipeline.read_photo = deadly
from geotag.machine.worker import work
work("backfill", 1, "INFO")
"""


@pytest.fixture
def deadly_worker(running: Context, tmp_path: Path) -> Iterator[Path]:
    """Run the only backfill worker; the fixture is the path of its log."""
    with only_backfill_worker(running, WORKER, tmp_path) as log:
        yield log


@pytest.mark.parametrize("poisons", [1, 3])
def test_poison_is_quarantined_and_its_neighbours_are_geotagged(
    running: Context, bucket: str, geotag: Geotag, deadly_worker: Path, poisons: int
) -> None:
    picture = good_files()["plain.jpg"]
    good = distinct_pictures(picture, 12, prefix=bucket)
    poison = {f"{bucket}/0003-{i}.jpg": picture + MARKER + b"%d" % i for i in range(poisons)}
    upload(running, bucket, good | poison)

    done = geotag("run", f"s3://{bucket}")

    assert done.returncode == 3, done.stderr + deadly_worker.read_text()
    found = results(running, bucket)
    ended = {key: (row.state, row.code) for key, row in found.items()}
    assert ended == dict.fromkeys(good, ("geotagged", None)) | dict.fromkeys(
        poison, ("quarantined", "worker_killed")
    )
    assert set(outcomes_of(running, bucket).values()) == {1}
    tries = attempts(running, bucket)
    for key in poison:
        assert tries[key] == ["worker_killed"] * running.settings.worker.crash_tries
    for key in good:
        assert tries[key][-1] is None
        assert tries[key][:-1] in ([], ["worker_killed"])  # at most once, beside a poisonous one
    assert f"{poisons} quarantined" in done.stdout

    again = geotag("run", f"s3://{bucket}")  # a later run does not lift the quarantine

    assert again.returncode == 3
    assert attempts(running, bucket) == tries


def test_queue_is_empty_of_poison_afterwards(
    running: Context, bucket: str, geotag: Geotag, deadly_worker: Path
) -> None:
    """No message is left that would kill the next worker."""
    picture = good_files()["plain.jpg"]
    upload(running, bucket, {"poison.jpg": picture + MARKER})
    assert geotag("run", f"s3://{bucket}").returncode == 3
    kills = deadly_worker.read_text().count("SIGKILL")

    upload(running, bucket, {"good.jpg": picture + b"good"})
    assert geotag("run", f"s3://{bucket}").returncode == 3  # of earlier failures

    until(lambda: results(running, bucket)["good.jpg"].state == "geotagged")
    assert deadly_worker.read_text().count("SIGKILL") == kills > 0
