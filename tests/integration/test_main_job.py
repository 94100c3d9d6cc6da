"""The main job: good and bad photographs from S3 through Celery and Triton into PostGIS."""

from pathlib import Path

from deploy.local import stack
from geotag.context import Context
from tests.conftest import Geotag, register
from tests.images import bad_files, good_files
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
from workers.planning.uploads import folder_prefix

SIDECARS = {"notes.txt": b"about these pictures", "plain.jpg.xmp": b"<x:xmpmeta/>", "folder/": b""}


def test_good_and_bad_files_end_in_the_expected_states(
    running: Context, bucket: str, geotag_process: Geotag
) -> None:
    good, bad = good_files(), bad_files()
    assert len(good) + len(bad) >= 30
    upload(running, bucket, good | {name: data for name, (data, _code) in bad.items()} | SIDECARS)

    done = geotag_process("run", f"s3://{bucket}")

    assert done.returncode == 3, done.stderr
    found = results(running, bucket)
    assert found.keys() == good.keys() | bad.keys()  # sidecars and folders are no objects
    wrong = {
        name: (found[name].state, found[name].code)
        for name in good
        if found[name].state != "geotagged"
    } | {
        name: (found[name].state, found[name].code)
        for name, (_data, code) in bad.items()
        if (found[name].state, found[name].code) != ("failed", code)
    }
    assert wrong == {}
    assert set(outcomes_of(running, bucket).values()) == {1}
    for name in good:
        row = found[name]
        assert row.longitude is not None
        assert row.latitude is not None
        assert -180 <= row.longitude <= 180
        assert -90 <= row.latitude <= 90
        assert row.confidence is None  # the release is not calibrated
        assert row.release == "untrained"
    assert f"{len(bad)} failed" in done.stdout
    assert "geotag results --run" in done.stdout  # how to list them


def test_facts_of_the_photograph_are_stored(running: Context, bucket: str, geotag: Geotag) -> None:
    upload(running, bucket, {"gps.jpg": good_files()["gps.jpg"]})

    assert geotag("run", f"s3://{bucket}").returncode == 0

    (shown,) = parsed(geotag("show", f"s3://{bucket}/gps.jpg", "--format", "json"))
    assert shown["content"]["format"] == "JPEG"
    assert -180 <= shown["content"]["exif_longitude"] <= 180
    assert shown["content"]["captured_at"]
    assert shown["prediction"]["release_digest"]
    assert [region["level"] for region in shown["regions"]] == [50, 80, 95]
    for region in shown["regions"]:
        assert region["probability"] >= region["level"] / 100 - 1e-6
        assert region["cells"] <= 64
    probabilities = [candidate["probability"] for candidate in shown["candidates"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_second_run_adds_nothing_and_asks_triton_nothing(
    running: Context, bucket: str, geotag: Geotag
) -> None:
    upload(running, bucket, {name: good_files()[name] for name in ("plain.jpg", "plain.png")})
    assert geotag("run", f"s3://{bucket}").returncode == 0
    before = inferences(running), scalar(running, "SELECT count(*) FROM geotag.geotag")

    done = geotag("run", f"s3://{bucket}")

    assert done.returncode == 0
    assert "2 done before" in done.stdout
    assert (inferences(running), scalar(running, "SELECT count(*) FROM geotag.geotag")) == before


def test_identical_bytes_are_inferred_once(running: Context, bucket: str, geotag: Geotag) -> None:
    picture = good_files()["plain.jpg"] + bucket.encode()
    upload(running, bucket, {f"copy-{i}.jpg": picture for i in range(20)})
    before = inferences(running)

    assert geotag("run", f"s3://{bucket}").returncode == 0

    assert inferences(running) == before + 1
    found = results(running, bucket)
    assert len(found) == 20
    assert len({row.sha256 for row in found.values()}) == 1
    assert {row.state for row in found.values()} == {"geotagged"}


def test_changed_object_gets_a_new_version_and_keeps_the_old_one(
    running: Context, bucket: str, geotag: Geotag
) -> None:
    good = good_files()
    upload(running, bucket, {"a.jpg": good["plain.jpg"]})
    assert geotag("run", f"s3://{bucket}").returncode == 0
    upload(running, bucket, {"a.jpg": b"no longer a picture"})

    assert geotag("run", f"s3://{bucket}").returncode == 3

    assert results(running, bucket)["a.jpg"].code == "not_an_image"
    assert outcomes_of(running, bucket)["a.jpg"] == 2  # one for each version

    upload(running, bucket, {"a.jpg": good["plain.jpg"]})  # the former bytes: they have a result
    done = geotag("run", f"s3://{bucket}")
    assert done.returncode == 0
    assert "1 done before" in done.stdout
    assert results(running, bucket)["a.jpg"].state == "geotagged"


def test_odd_keys_are_processed(running: Context, bucket: str, geotag: Geotag) -> None:
    keys = [
        "with space.jpg", "a+b.jpg", "100%.jpg", "%2F.jpg", "ünï/漢字.jpg", "q?x=1#f.jpg",
        "tab\there.jpg", "quote'\".jpg", "[bold]x[/bold].jpg",
    ]  # fmt: skip
    picture = good_files()["plain.jpg"]
    upload(running, bucket, dict.fromkeys(keys, picture))

    assert geotag("run", f"s3://{bucket}").returncode == 0

    assert {key: row.state for key, row in results(running, bucket).items()} == dict.fromkeys(
        keys, "geotagged"
    )
    assert geotag("results", f"s3://{bucket}").returncode == 0


def test_manifest_with_existing_and_missing_objects(
    running: Context, bucket: str, geotag: Geotag, tmp_path: Path
) -> None:
    upload(running, bucket, {"in.jpg": good_files()["plain.jpg"], "out.jpg": b"not named"})
    register(running, f"{bucket}-no")  # registered, but there is no such bucket
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        f"id,url\n1,s3://{bucket}/in.jpg\n2,s3://{bucket}/gone.jpg\n3,s3://{bucket}-no/x.jpg\n"
    )

    done = geotag("run", str(manifest))

    assert done.returncode == 3, done.stderr
    found = results(running, bucket)
    assert {key: (row.state, row.code) for key, row in found.items()} == {
        "in.jpg": ("geotagged", None),
        "gone.jpg": ("failed", "object_missing"),
    }
    assert results(running, f"{bucket}-no")["x.jpg"].code == "bucket_unknown"


def test_local_folder_is_uploaded_once(running: Context, geotag: Geotag, tmp_path: Path) -> None:
    folder = tmp_path / f"album-{scalar(running, 'SELECT gen_random_uuid()')}"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x.jpg").write_bytes(good_files()["plain.jpg"])

    first, second = geotag("run", str(folder)), geotag("run", str(folder))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "1 geotagged" in first.stdout
    assert "1 done before" in second.stdout
    assert results(running, "photos")[f"{folder_prefix(folder)}sub/x.jpg"].state == "geotagged"


def test_locate_is_answered_while_a_backfill_waits(
    running: Context, bucket: str, geotag: Geotag, tmp_path: Path
) -> None:
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], 20, prefix=bucket))
    stack.stop_service(running.settings.stack, "worker-backfill")
    try:
        assert geotag("run", f"s3://{bucket}", "--no-wait").returncode == 0
        assert queued(running.app, BACKFILL) > 0
        picture = tmp_path / "mine.jpg"
        picture.write_bytes(good_files()["plain.png"] + bucket.encode())
        (shown,) = parsed(geotag("locate", str(picture), "--format", "json"))
        assert shown["state"] == "geotagged"
        assert shown["candidates"]
        assert queued(running.app, BACKFILL) > 0
    finally:
        stack.start_service(running.settings.stack, "worker-backfill")
    until(lambda: all(row.state == "geotagged" for row in results(running, bucket).values()))


def test_photographs_from_cameras_are_geotagged(
    running: Context, geotag: Geotag, shared: Path
) -> None:
    folder = shared / "photos" / "camera"
    pictures = {folder_prefix(folder) + path.name for path in folder.glob("*.jpg")}

    done = geotag("run", str(folder))

    assert done.returncode in (0, 3), done.stderr
    found = {key: row for key, row in results(running, "photos").items() if key in pictures}
    assert found.keys() == pictures
    assert {row.state for row in found.values()} <= {"geotagged", "failed"}
    counted = outcomes_of(running, "photos")
    assert {counted[key] for key in pictures} == {1}
    before = inferences(running)
    again = geotag("run", str(folder))
    assert again.returncode == done.returncode  # earlier failures are unchanged
    assert inferences(running) == before
