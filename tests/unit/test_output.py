"""Records as a table, JSON, CSV and GeoJSON."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from db.reads import ResultRow
from db.schema import STATES
from geotag.output import no_formula, write_csv, write_geojson, write_json
from geotag.results.table import confidence_text, position_text, print_results
from geotag.results.writers import as_feature, as_record, at_most
from geotag.tables import STATE_STYLES

GOOD = ResultRow(
    archive="album",
    bucket="photos",
    key="a.jpg",
    state="geotagged",
    code=None,
    longitude=2.2945,
    latitude=48.8584,
    confidence=0.25,
    scene="urban",
    release="r1",
    sha256="ab" * 32,
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)
PENDING = ResultRow("album", "photos", "b.jpg", "pending", *[None] * 8)
NAMES = list(ResultRow.__dataclass_fields__)

# Every key that S3 allows, without what UTF-8 cannot encode.
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)


def near(longitude: float, latitude: float) -> str:
    return "12 km from Somewhere, XX"


def printed(*rows: ResultRow) -> str:
    out = StringIO()
    print_results(rows, near, to=Console(file=out, width=160))
    return out.getvalue()


def test_record_has_the_stable_names_in_their_order() -> None:
    record = as_record(GOOD)
    assert list(record) == NAMES
    assert record["at"] == "2026-01-02T03:04:05+00:00"
    assert as_record(PENDING)["at"] is None


def test_feature_has_longitude_first_and_no_second_position() -> None:
    feature = as_feature(GOOD)
    assert feature["geometry"] == {"type": "Point", "coordinates": [2.2945, 48.8584]}
    assert feature["properties"].keys() == set(NAMES) - {"longitude", "latitude"}


def test_feature_on_the_equator_and_the_prime_meridian_has_a_point() -> None:
    nought = replace(GOOD, longitude=0.0, latitude=0.0)
    assert as_feature(nought)["geometry"]["coordinates"] == [0.0, 0.0]


def test_feature_without_a_position_has_a_null_geometry() -> None:
    feature = as_feature(PENDING)
    assert feature["geometry"] is None
    assert feature["type"] == "Feature"


@given(st.lists(keys, max_size=5))
def test_json_and_geojson_give_back_what_was_written(names: list[str]) -> None:
    rows = [replace(GOOD, key=name) for name in names]
    plain, geo = StringIO(), StringIO()
    write_json(map(as_record, rows), plain)
    write_geojson(map(as_feature, rows), geo)
    assert json.loads(plain.getvalue()) == [as_record(row) for row in rows]
    assert json.loads(geo.getvalue()) == {
        "type": "FeatureCollection",
        "features": [as_feature(row) for row in rows],
    }


@given(st.lists(keys, max_size=5))
def test_csv_gives_back_what_was_written(names: list[str]) -> None:
    out = StringIO(newline="")
    write_csv((as_record(replace(PENDING, key=name)) for name in names), NAMES, out)
    read = list(csv.DictReader(StringIO(out.getvalue(), newline="")))
    assert [row["key"] for row in read] == [no_formula(name) for name in names]
    assert all(list(row) == NAMES and row["longitude"] == "" for row in read)


def test_csv_of_nothing_has_its_header() -> None:
    out = StringIO()
    write_csv([], NAMES, out)
    assert out.getvalue() == ",".join(NAMES) + "\r\n"


def test_results_are_streamed() -> None:
    # An endless source: code that collects it first would never return.
    out = StringIO()
    rows = (replace(GOOD, key=f"{number}.jpg") for number in count())
    write_json(map(as_record, at_most(rows, 3)), out)
    assert [row["key"] for row in json.loads(out.getvalue())] == ["0.jpg", "1.jpg", "2.jpg"]


def test_at_most_without_a_limit_is_all() -> None:
    assert list(at_most(iter([GOOD, PENDING]), None)) == [GOOD, PENDING]


@pytest.mark.parametrize(
    ("longitude", "latitude", "text"),
    [
        (2.2945, 48.8584, "48.86° N, 2.29° E"),
        (-70.6483, -33.4569, "33.46° S, 70.65° W"),
        (0.0, 0.0, "0.00° N, 0.00° E"),
        (None, None, "–"),
    ],
)
def test_position_for_people(longitude: float | None, latitude: float | None, text: str) -> None:
    assert position_text(longitude, latitude) == text


def test_confidence_is_shown_only_if_there_is_one() -> None:
    assert confidence_text(None) == "–"
    assert confidence_text(0.0) == "0%"
    assert confidence_text(0.254) == "25%"


def test_table_shows_place_confidence_scene_and_state() -> None:
    line = printed(GOOD).splitlines()[1]
    for text in ("a.jpg", "Somewhere, XX", "25%", "urban", "geotagged"):
        assert text in line


def test_table_shows_the_reason_of_a_failure() -> None:
    line = printed(replace(PENDING, state="failed", code="truncated")).splitlines()[1]
    assert "none: truncated" in line
    assert "failed" in line


def test_every_state_has_a_style() -> None:
    assert STATE_STYLES.keys() == {"pending", *STATES}


@pytest.mark.parametrize(
    "key",
    [
        "[bold]x[/bold].jpg",
        "[/]",
        "a[1].jpg",
        "a\\",
        "\\[red]x.jpg",
        "\\[/]",
    ],
)
def test_table_prints_a_key_that_looks_like_markup_as_it_is(key: str) -> None:
    assert key in printed(replace(GOOD, key=key))


@given(keys)
def test_no_control_character_of_a_key_reaches_the_terminal(key: str) -> None:
    text = printed(replace(GOOD, key=key))
    assert all(character.isprintable() or character == "\n" for character in text)
