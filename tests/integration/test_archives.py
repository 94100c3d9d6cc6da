"""The archive commands, with the real S3 service and real workers."""

import gzip
import hashlib
import json
import uuid
from pathlib import Path

import pytest

from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import parsed, results, upload


@pytest.fixture
def loose(running: Context) -> str:
    """An unregistered bucket with photographs and other files in two folders."""
    name = f"loose-{uuid.uuid4().hex[:12]}"
    running.s3.ensure_bucket(name)
    picture = good_files()["plain.jpg"]
    names = ("2026/a.jpg", "2026/thumbs/a.jpg", "2025/b.jpg", "2026/c.png")
    upload(running, name, {key: picture + key.encode() for key in names})
    return name


def test_unregistered_archives_are_refused_by_name(
    geotag: Geotag, loose: str, bucket: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"s3://{bucket}/a.jpg\ns3://{loose}/2026/a.jpg\n")
    url = f"s3://{bucket}/manifest.json"
    for arguments in (
        ["run", f"s3://{loose}/2026/"],
        ["run", str(manifest)],
        ["locate", f"s3://{loose}/2026/a.jpg"],
        ["run", loose, "--inventory", url],
        ["run", bucket, "--inventory", f"s3://{loose}/manifest.json"],
    ):
        done = geotag(*arguments)
        assert done.returncode == 2, done.stderr
        assert loose in done.stderr
        assert "geotag archive" in done.stderr
    assert "row 2" in geotag("run", str(manifest)).stderr


def test_an_archive_from_registration_to_removal(
    geotag: Geotag, running: Context, loose: str
) -> None:
    options = ("--include", "*.jpg", "--exclude", "*/thumbs/*", "--exclude", "thumbs/*")
    added = geotag("archive", "add", loose, f"s3://{loose}/2026/", *options)
    assert added.returncode == 0, added.stderr
    assert geotag("run", loose).returncode == 0
    assert set(results(running, loose)) == {"2026/a.jpg"}
    assert {row.archive for row in results(running, loose).values()} == {loose}

    assert geotag("archive", "pause", loose).returncode == 0
    refused = geotag("run", loose)
    assert (refused.returncode, "paused" in refused.stderr) == (2, True)
    assert geotag("archive", "resume", loose).returncode == 0

    (listed,) = [a for a in parsed(geotag("archive", "list", "-f", "json")) if a["name"] == loose]
    assert (listed["state"], listed["objects"], listed["pending"]) == ("registered", 1, 0)

    assert geotag("archive", "remove", loose).returncode == 0
    assert set(results(running, loose)) == {"2026/a.jpg"}
    assert geotag("run", loose).returncode == 2
    elsewhere = geotag("archive", "add", loose, f"s3://{loose}/2025/")
    assert (elsewhere.returncode, "choose another" in elsewhere.stderr) == (2, True)
    renamed = geotag("archive", "add", f"{loose}-2", f"s3://{loose}/2026/")
    assert (renamed.returncode, loose in renamed.stderr) == (2, True)
    assert geotag("archive", "add", loose, f"s3://{loose}/2026/").returncode == 0
    assert geotag("run", loose).returncode == 0
    assert set(results(running, loose)) == {"2026/a.jpg", "2026/thumbs/a.jpg", "2026/c.png"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["../x", "s3://b"], "not a valid name"),
        (["x", "https://host/b"], "not an S3 URL"),
        (["x", "s3://b", "--endpoint", "http://169.254.169.254"], "not public"),
        (["x", "s3://b", "--endpoint", "https://localhost:9000"], "not public"),
        (["x", "s3://b", "--endpoint", "https://u:hidden@host"], "host and a port"),
        (["x", "s3://b", "--endpoint", "gopher://host"], "https://host:port"),
        (["x", "s3://b", "--credentials", "AKIAIOSFODNN7EXAMPLE"], "never a secret"),
        (["x", "s3://b", "--credentials", "env:A;B"], "not a valid prefix"),
        (["x", "s3://b", "--profile", "p", "--role", "r"], "at most one of"),
    ],
)
def test_invalid_archives_are_refused(geotag: Geotag, arguments: list[str], why: str) -> None:
    done = geotag("archive", "add", *arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_overlapping_archives_are_refused_and_disjoint_ones_accepted(
    geotag: Geotag, loose: str
) -> None:
    assert geotag("archive", "add", f"{loose}-a", f"s3://{loose}/2026/").returncode == 0
    assert geotag("archive", "add", f"{loose}-b", f"s3://{loose}/2025/").returncode == 0
    for prefix in ("", "2", "2026/thumbs/"):
        done = geotag("archive", "add", f"{loose}-c", f"s3://{loose}/{prefix}")
        assert (done.returncode, "in common" in done.stderr) == (2, True)


def test_vanished_objects_leave_the_results_until_they_are_listed_again(
    geotag: Geotag, running: Context, bucket: str
) -> None:
    picture = good_files()["plain.jpg"]
    files = {f"{n}.jpg": picture + f"{bucket}{n}".encode() for n in range(3)}
    upload(running, bucket, files)
    assert geotag("run", bucket).returncode == 0
    running.s3._clients.s3.delete_object(Bucket=bucket, Key="1.jpg")
    gone = geotag("run", bucket)
    assert "1 objects that were there have vanished" in gone.stderr
    assert set(results(running, bucket)) == {"0.jpg", "2.jpg"}
    upload(running, bucket, {"1.jpg": files["1.jpg"]})
    assert geotag("run", bucket).returncode == 0
    assert set(results(running, bucket)) == set(files)


def test_inventory_of_an_archive(geotag: Geotag, running: Context, bucket: str) -> None:
    picture = good_files()["plain.jpg"]
    files = {key: picture + key.encode() + bucket.encode() for key in ("in/a b.jpg", "in/c.jpg")}
    upload(running, bucket, files)
    etags = {
        key: hashlib.md5(data, usedforsecurity=False).hexdigest() for key, data in files.items()
    }
    rows = "".join(
        f'"{bucket}","{key.replace(" ", "+")}","{len(files[key])}","{etags[key]}"\n'
        for key in files
    )
    data = gzip.compress(rows.encode())
    manifest = {
        "sourceBucket": bucket,
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "creationTimestamp": "1893456000000",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, ETag",
        "files": [
            {
                "key": "inventory/1.csv.gz",
                "size": len(data),
                "MD5checksum": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            }
        ],
    }
    upload(
        running,
        bucket,
        {"inventory/1.csv.gz": data, "inventory/manifest.json": json.dumps(manifest).encode()},
    )
    url = f"s3://{bucket}/inventory/manifest.json"
    done = geotag("run", bucket, "--inventory", url)
    assert done.returncode == 0, done.stderr
    assert {key: row.state for key, row in results(running, bucket).items()} == {
        "in/a b.jpg": "geotagged",
        "in/c.jpg": "geotagged",
    }
