"""Print all that is known of one object: `geotag show` and `geotag locate`."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.text import Text

from db.reads import Shown, show
from geotag.context import Context
from geotag.formats import Format
from geotag.output import console, plain, write_csv, write_geojson, write_json
from geotag.results.places import near
from geotag.results.table import confidence_text, position_text
from geotag.results.writers import as_feature, as_record
from geotag.tables import (
    Column,
    Fact,
    Row,
    Shorten,
    number_column,
    print_facts,
    print_table,
    prose_column,
)
from workers.errors import UsageError


def as_document(shown: Shown) -> dict[str, Any]:
    """Return everything as one JSON object (docs/results.md)."""
    return as_record(shown.result) | {
        "message": shown.message,
        "etag": shown.etag,
        "size": shown.size,
        "content": shown.content,
        "prediction": shown.prediction,
        "candidates": [asdict(candidate) for candidate in shown.candidates],
        "regions": [
            {name: value for name, value in region.items() if name != "geometry"}
            for region in shown.regions
        ],
        "attempts": [
            attempt | {name: attempt[name] and attempt[name].isoformat() for name in _TIMES}
            for attempt in shown.attempts
        ],
    }


_TIMES = ("started_at", "finished_at")


def print_shown(
    context: Context,
    bucket: str | None,
    key: str,
    form: Format,
    *,
    release: str | None = None,
    wide: bool = False,
) -> None:
    """Print what is known of the objects of a key.

    Args:
        context: settings and clients.
        bucket: the key's bucket; None is all buckets.
        key: the objects' key.
        form: the format.
        release: whose answers to print; None is the active release, or else the newest answer.
        wide: show every fact in full, however wide the table becomes.

    Raises:
        UsageError: no such object is recorded.
    """
    found = show(context.engine, bucket, key, release=release)
    if not found:
        raise UsageError(f"no object {key!r} is recorded; geotag results lists those that are")
    if form is Format.JSON:
        write_json(map(as_document, found), sys.stdout)
    elif form is Format.CSV:
        records = [as_record(shown.result) for shown in found]
        write_csv(records, records[0], sys.stdout)
    elif form is Format.GEOJSON:
        write_geojson((f for shown in found for f in _features(shown)), sys.stdout)
    else:
        for shown in found:
            print_page(shown, wide=wide)


def _features(shown: Shown) -> list[dict[str, Any]]:
    """Return the point and its credible regions, the widest first: maps draw it at the bottom."""
    regions = [
        {
            "type": "Feature",
            "geometry": region["geometry"],
            "properties": {
                "bucket": shown.result.bucket,
                "key": shown.result.key,
                "region": region["level"],
                "probability": region["probability"],
                "area_km2": region["area_km2"],
            },
        }
        for region in reversed(shown.regions)
    ]
    return [*regions, as_feature(shown.result)]


def print_page(shown: Shown, *, wide: bool = False) -> None:
    """Print one object's key, facts, candidates and regions."""
    result, prediction = shown.result, shown.prediction
    console.print(plain(f"s3://{result.bucket}/{result.key}"), style="bold", soft_wrap=True)
    print_facts(_facts(shown), wide=wide)
    if shown.message:
        console.print(plain(shown.message), soft_wrap=True)
    measure = "probability" if prediction and prediction["calibrated"] else "uncalibrated score"
    if shown.candidates:
        _print_candidates(shown, measure, wide)
    for region in shown.regions:
        console.print(
            f"{region['level']} % region: {region['cells']} cells, {region['area_km2']:,.0f} km²,"
            f" {measure} {region['probability']:.1%}",
            highlight=False,
        )


def _facts(shown: Shown) -> Iterator[Fact]:
    result = shown.result
    yield Fact("state", f"{result.state} ({result.code})" if result.code else result.state)
    if result.longitude is not None and result.latitude is not None:
        place = position_text(result.longitude, result.latitude)
        yield Fact("place", f"{place}  {near(result.longitude, result.latitude)}")
    if shown.prediction is not None:
        yield from _facts_of_prediction(shown, shown.prediction)
    for name, value in shown.content.items():
        yield Fact(name, str(value))
    yield Fact("sha256", result.sha256 or "–", Shorten.MIDDLE)


def _facts_of_prediction(shown: Shown, prediction: dict[str, Any]) -> Iterator[Fact]:
    stated = confidence_text(shown.result.confidence)
    why = "" if prediction["calibrated"] else " (the release is not calibrated)"
    yield Fact("confidence", f"{stated}{why}")
    scenes = sorted(prediction["scene"].items(), key=lambda scene: -scene[1])
    yield Fact("scene", ", ".join(f"{name} {value:.0%}" for name, value in scenes))
    release = f"{shown.result.release} {prediction['release_digest'][:12]}"
    yield Fact("release", release, Shorten.MIDDLE)
    for cell in prediction["cells"]:
        if cell["token"]:
            yield Fact(f"{cell['partition']} cell", f"{cell['token']}  {cell['probability']:.2%}")


def _print_candidates(shown: Shown, measure: str, wide: bool) -> None:
    rows: list[Row] = []
    for candidate in shown.candidates:
        place = position_text(candidate.longitude, candidate.latitude)
        named = plain(near(candidate.longitude, candidate.latitude))
        named.stylize("dim")
        cells = (candidate.token, f"{candidate.probability:.2%}", Text.assemble(place, "  ", named))
        rows.append(cells)
    listed = sum(candidate.probability for candidate in shown.candidates)
    rows.append((Text("not listed", "dim"), f"{max(0.0, 1 - listed):.2%}", ""))
    columns = (Column("candidate"), number_column(measure), prose_column("place"))
    print_table(columns, rows, wide=wide)
