"""`geotag show` and what `geotag locate` prints: all that is known of one object."""

import sys
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from db.reads import Shown, show
from geotag.context import Context
from geotag.formats import Format
from geotag.output import console, plain, write_csv, write_geojson, write_json
from geotag.results.places import near
from geotag.results.table import confidence_text, position_text
from geotag.results.writers import as_feature, as_record
from workers.errors import UsageError


def as_document(shown: Shown) -> dict[str, Any]:
    """Everything as one JSON object (docs/results.md)."""
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


def print_shown(context: Context, bucket: str | None, key: str, form: Format) -> None:
    """Print what is known of the objects of that key (in all buckets where none is given).

    Raises:
        UsageError: no such object is recorded.
    """
    found = show(context.engine, bucket, key)
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
            _print(shown)


def _features(shown: Shown) -> list[dict[str, Any]]:
    """The point and its credible regions, the widest first so that a map draws it below."""
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


def _print(shown: Shown) -> None:
    result, prediction = shown.result, shown.prediction
    console.print(plain(f"s3://{result.bucket}/{result.key}"), style="bold", soft_wrap=True)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("state", f"{result.state} ({result.code})" if result.code else result.state)
    if shown.message:
        facts.add_row("message", plain(shown.message))
    if result.longitude is not None and result.latitude is not None:
        place = position_text(result.longitude, result.latitude)
        facts.add_row("place", f"{place}  {near(result.longitude, result.latitude)}")
    if prediction is not None:
        stated = confidence_text(result.confidence)
        why = "" if prediction["calibrated"] else " (the release is not calibrated)"
        facts.add_row("confidence", f"{stated}{why}")
        scenes = sorted(prediction["scene"].items(), key=lambda scene: -scene[1])
        facts.add_row("scene", ", ".join(f"{name} {value:.0%}" for name, value in scenes))
        facts.add_row("release", f"{result.release} {prediction['release_digest'][:12]}")
        cells = (
            f"{c['partition']} {c['token']} {c['probability']:.2%}"
            for c in prediction["cells"]
            if c["token"]
        )
        facts.add_row("cells", ", ".join(cells))
    for name, value in shown.content.items():
        facts.add_row(name, plain(str(value)))
    facts.add_row("sha256", result.sha256 or "–")
    console.print(facts)
    measure = "probability" if prediction and prediction["calibrated"] else "uncalibrated score"
    if shown.candidates:
        console.print(_candidates(shown, measure))
    for region in shown.regions:
        console.print(
            f"{region['level']} % region: {region['cells']} cells, {region['area_km2']:,.0f} km²,"
            f" {measure} {region['probability']:.1%}",
            highlight=False,
        )


def _candidates(shown: Shown, measure: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    table.add_column("candidate")
    table.add_column(measure, justify="right")
    table.add_column("place")
    for candidate in shown.candidates:
        place = position_text(candidate.longitude, candidate.latitude)
        table.add_row(
            candidate.token,
            f"{candidate.probability:.2%}",
            Text.assemble(place, "  ", (near(candidate.longitude, candidate.latitude), "dim")),
        )
    listed = sum(candidate.probability for candidate in shown.candidates)
    table.add_row("[dim]not listed[/dim]", f"{max(0.0, 1 - listed):.2%}", "")
    return table
