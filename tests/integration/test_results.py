"""Output of `results`, `show` and `status` in every format, as docs/results.md describes it."""

import csv
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from io import StringIO
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from db.reads import ResultRow
from deploy.local import stack
from geotag.context import Context
from geotag.runs.run import run, source_of
from tests.conftest import PROJECT, Geotag, register
from tests.images import good_files
from tests.stack_helpers import parsed, results, until, upload

SCHEMA = json.loads((PROJECT / "docs" / "results.schema.json").read_text(encoding="utf-8"))
NAMES = [field.name for field in fields(ResultRow)]
ODD_KEY = 'a, "quoted"\nkey/failed.jpg'


def problems(document: Any, part: str | None = None) -> list[str]:
    """Return the violations of the schema, or of one of its definitions."""
    schema = {"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{part}"} if part else SCHEMA
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


@dataclass(frozen=True)
class Ledger:
    """A bucket with a geotagged, a failed and a pending object; the workers are stopped."""

    bucket: str
    run_id: int


@pytest.fixture(autouse=True)
def nothing_is_left_to_do() -> None:
    """Do nothing after each test, because one object must stay pending; `ledger` cleans up."""


@pytest.fixture(scope="module")
def ledger(running: Context) -> Iterator[Ledger]:
    """Made once, because these tests only read."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    running.s3.ensure_bucket(bucket)
    register(running, bucket)
    upload(running, bucket, {"good.jpg": good_files()["gps.jpg"], ODD_KEY: b"no picture"})
    finished, _seconds = run(running, source_of(running, f"s3://{bucket}"))
    assert finished is not None
    upload(running, bucket, {"pending.jpg": good_files()["plain.png"] + bucket.encode()})
    stack.stop_service(running.settings.stack, "worker-backfill")
    try:
        run(running, source_of(running, f"s3://{bucket}"), wait=False)
        yield Ledger(bucket, finished.id)
    finally:
        stack.start_service(running.settings.stack, "worker-backfill")
    until(lambda: results(running, bucket)["pending.jpg"].state != "pending")


def test_json_of_results_conforms_to_the_schema(ledger: Ledger, geotag: Geotag) -> None:
    found = parsed(geotag("results", f"s3://{ledger.bucket}", "--format", "json"))

    assert problems(found) == []
    assert {row["key"]: (row["state"], row["code"]) for row in found} == {
        "good.jpg": ("geotagged", None),
        ODD_KEY: ("failed", "not_an_image"),
        "pending.jpg": ("pending", None),
    }
    # The schema also rejects wrong documents.
    (good,) = (row for row in found if row["state"] == "geotagged")
    (pending,) = (row for row in found if row["state"] == "pending")
    assert problems([good | {"surplus": 1}])
    assert problems([good | {"longitude": None}])
    assert problems([good | {"latitude": 91}])
    assert problems([pending | {"confidence": 0.5}])
    assert problems([{name: value for name, value in good.items() if name != "at"}])


def test_csv_has_the_same_columns_and_values(ledger: Ledger, geotag: Geotag) -> None:
    source = f"s3://{ledger.bucket}"
    rows = parsed(geotag("results", source, "--format", "json"))

    done = geotag("results", source, "--format", "csv")

    read = csv.DictReader(StringIO(done.stdout, newline=""))
    assert read.fieldnames == NAMES
    expected = [
        {name: "" if row[name] is None else str(row[name]) for name in NAMES} for row in rows
    ]
    assert list(read) == expected


def check_geojson(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Check a document against RFC 7946; return its features."""
    assert document["type"] == "FeatureCollection"
    for feature in document["features"]:
        assert feature.keys() == {"type", "geometry", "properties"}  # section 3.2
        assert feature["type"] == "Feature"
        assert isinstance(feature["properties"], dict)
        if feature["geometry"] is not None:
            check_geometry(feature["geometry"])
    return list(document["features"])


def check_geometry(geometry: Mapping[str, Any]) -> None:
    assert geometry.keys() == {"type", "coordinates"}  # section 4: no "crs", it is WGS 84
    if geometry["type"] == "Point":
        positions = [geometry["coordinates"]]
    else:
        assert geometry["type"] == "MultiPolygon"
        rings = [ring for polygon in geometry["coordinates"] for ring in polygon]
        for ring in rings:  # section 3.1.6
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
        positions = [position for ring in rings for position in ring]
    for longitude, latitude in positions:  # section 3.1.1: longitude first
        assert -180 <= longitude <= 180
        assert -90 <= latitude <= 90


def test_geojson_of_results_is_valid(ledger: Ledger, geotag: Geotag) -> None:
    source = f"s3://{ledger.bucket}"
    rows = {row["key"]: row for row in parsed(geotag("results", source, "--format", "json"))}

    features = check_geojson(parsed(geotag("results", source, "--format", "geojson")))

    assert len(features) == len(rows)
    for feature in features:
        row = rows[feature["properties"]["key"]]
        position = [row.pop("longitude"), row.pop("latitude")]
        assert feature["properties"] == row
        if row["state"] == "geotagged":
            assert feature["geometry"] == {"type": "Point", "coordinates": position}
        else:
            assert feature["geometry"] is None


def test_filters(ledger: Ledger, geotag: Geotag) -> None:
    source = f"s3://{ledger.bucket}"

    def keys(*arguments: str) -> list[str]:
        return [row["key"] for row in parsed(geotag("results", *arguments, "--format", "json"))]

    assert keys(source) == sorted([ODD_KEY, "good.jpg", "pending.jpg"])
    assert keys(source, "--state", "geotagged") == ["good.jpg"]
    assert keys(source, "--state", "failed") == [ODD_KEY]
    assert keys(source, "--state", "pending") == ["pending.jpg"]
    assert keys(source, "--state", "quarantined") == []
    assert keys(source, "--limit", "2") == keys(source)[:2]
    assert keys(f"{source}/good") == ["good.jpg"]
    assert keys("--run", str(ledger.run_id)) == sorted([ODD_KEY, "good.jpg"])
    # Results of a release, pending objects included.
    assert keys(source, "--release", "untrained") == keys(source)


@pytest.mark.parametrize(
    "arguments",
    [
        ("results", "--state", "lost"),
        ("results", "--limit", "0"),
        ("results", "--release", "another"),
        ("results", "--format", "yaml"),
        ("results", "not-a-url"),
        ("show", "no/such/key.jpg"),
        ("status", "--run", "999999999"),
        ("status", "--format", "geojson"),
    ],
)
def test_invalid_filters_are_wrong_usage(
    running: Context, geotag: Geotag, arguments: tuple[str, ...]
) -> None:
    done = geotag(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "what to do:" in done.stderr


def test_show_in_every_format(ledger: Ledger, geotag: Geotag) -> None:
    good = f"s3://{ledger.bucket}/good.jpg"

    (shown,) = parsed(geotag("show", good, "--format", "json"))
    (row,) = csv.DictReader(StringIO(geotag("show", good, "--format", "csv").stdout, newline=""))
    features = check_geojson(parsed(geotag("show", good, "--format", "geojson")))

    assert problems([shown], "shown_list") == []
    assert problems([shown | {"surplus": 1}], "shown_list")
    assert list(row) == NAMES
    assert (row["key"], row["state"]) == ("good.jpg", "geotagged")
    assert [feature["properties"].get("region") for feature in features] == [95, 80, 50, None]
    assert features[-1]["geometry"]["coordinates"] == [shown["longitude"], shown["latitude"]]
    assert shown["state"] in geotag("show", good).stdout


def test_exterior_rings_of_regions_go_counterclockwise(ledger: Ledger, geotag: Geotag) -> None:
    features = parsed(geotag("show", f"s3://{ledger.bucket}/good.jpg", "--format", "geojson"))
    exteriors = [
        polygon[0]
        for feature in features["features"]
        if feature["geometry"]["type"] == "MultiPolygon"
        for polygon in feature["geometry"]["coordinates"]
    ]
    # Twice the signed area; positive is counterclockwise (RFC 7946, section 3.1.6).
    areas = [sum(a * d - c * b for (a, b), (c, d) in pairwise(ring)) for ring in exteriors]
    assert min(areas) > 0


def test_show_of_objects_without_a_position(ledger: Ledger, geotag: Geotag) -> None:
    for key, state in ((ODD_KEY, "failed"), ("pending.jpg", "pending")):
        url = f"s3://{ledger.bucket}/{key}"
        (shown,) = parsed(geotag("show", url, "--format", "json"))
        (feature,) = check_geojson(parsed(geotag("show", url, "--format", "geojson")))
        assert problems([shown], "shown_list") == []
        assert shown["state"] == state
        assert shown["prediction"] is None
        assert shown["candidates"] == shown["regions"] == []
        assert feature["geometry"] is None


def test_status_in_every_format(ledger: Ledger, geotag: Geotag) -> None:
    runs = parsed(geotag("status", "--format", "json"))
    (one,) = parsed(geotag("status", "--run", str(ledger.run_id), "--format", "json"))
    lines = csv.DictReader(StringIO(geotag("status", "--format", "csv").stdout, newline=""))

    assert problems(runs, "run_list") == []
    assert problems([one | {"surplus": 1}], "run_list")
    assert [run["id"] for run in runs] == sorted((run["id"] for run in runs), reverse=True)
    assert one in runs
    assert one["finished"]
    assert (one["geotagged"], one["failed"], one["pending"]) == (1, 1, 0)
    newest = runs[0]
    assert not newest["finished"]
    assert (newest["done_before"], newest["failed_before"], newest["pending"]) == (2, 1, 1)
    assert [int(line["id"]) for line in lines] == [run["id"] for run in runs]
    assert lines.fieldnames == list(one)


def test_locate_prints_the_same_document(running: Context, bucket: str, geotag: Geotag) -> None:
    upload(running, bucket, {"one.png": good_files()["plain.png"]})

    shown = parsed(geotag("locate", f"s3://{bucket}/one.png", "--format", "json"))

    assert problems(shown, "shown_list") == []
    assert [(each["bucket"], each["key"]) for each in shown] == [(bucket, "one.png")]
