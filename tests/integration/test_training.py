"""What is trained on an archive, and what is made of it, beside the running stack."""

import json
from pathlib import Path

import pytest

from geotag.context import Context
from tests import four_places, training_files
from tests.conftest import Geotag
from tests.stack_helpers import upload


def test_only_a_registered_archive_is_trained_on(
    geotag: Geotag, geotag_process: Geotag, running: Context, bucket: str, tmp_path: Path
) -> None:
    path = training_files.write(tmp_path)
    pictures = {f"a/{file.name}": file.read_bytes() for file in tmp_path.glob("photographs/*")}
    loose = f"loose-{bucket}"
    running.s3.ensure_bucket(loose)
    for name in (bucket, loose):
        upload(running, name, pictures)
    asked = ["train", str(path), "--set", "network.scenes=0", "--set", "training.epochs=1"]
    refused = geotag_process(*asked, "--set", f"data.folder=s3://{loose}/a")
    assert refused.returncode == 2
    assert f"s3://{loose}/a/ is in no registered archive" in refused.stderr
    assert not (tmp_path / "run").exists()
    table = tmp_path / "photographs.csv"
    table.write_text(table.read_text().replace("3.png", "../a/3.png"))
    done = geotag_process(*asked, "--set", f"data.folder=s3://{bucket}/a")
    assert done.returncode == 0, done.stderr
    bad = (tmp_path / "run" / "bad.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in bad] == [["../a/3.png", "object_forbidden"]]
    geotag("archive", "pause", bucket)
    assert "is paused" in geotag_process(*asked, "--set", f"data.folder=s3://{bucket}/a").stderr


def test_a_release_made_of_a_run_answers(
    geotag: Geotag, geotag_process: Geotag, running: Context, bucket: str, tmp_path: Path
) -> None:
    """By the commands in docs/training.md."""
    assert geotag_process("train", str(four_places.write(tmp_path))).returncode == 0
    out = tmp_path / "releases"
    made = geotag_process(
        "releases", "make", str(tmp_path / "run"), "--name", "mine", "--out", str(out)
    )
    assert made.returncode == 0, made.stderr
    assert geotag("releases", "register", str(out / "mine")).returncode == 0
    places = dict(
        zip(("paris", "london", "sydney", "buenos-aires"), four_places.PLACES, strict=True)
    )
    pictures = {  # of one colour each
        f"{name}.png": (tmp_path / "validation" / f"{number}.png").read_bytes()
        for name, number in zip(places, (4, 1, 2, 7), strict=True)
    }
    upload(running, bucket, pictures)
    try:
        activated = geotag("releases", "activate", "mine")
        assert activated.returncode == 0, activated.stderr
        assert geotag("run", f"s3://{bucket}/").returncode == 0
        rows = json.loads(geotag("results", f"s3://{bucket}/", "-f", "json").stdout)
    finally:
        geotag("releases", "activate", "untrained")
    assert {row["release"] for row in rows} == {"mine"}
    for row in rows:
        place = places[row["key"].removesuffix(".png")]
        assert (row["longitude"], row["latitude"]) == pytest.approx(place, abs=0.02)
        assert 0.5 < row["confidence"] <= 1
