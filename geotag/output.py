"""How results leave: a table for people; JSON, CSV and GeoJSON for scripts."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from db.reads import ResultRow
from geotag.formats import Format
from triton_models.evaluation.spreadsheet import escape_formula


class _Tables(Console):
    """Tables whose reader may leave (`| head`): that is no failure of ours."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Tables()
errors = Console(stderr=True)


def progress_line(line: str) -> None:
    """Print a line about long work to standard error."""
    errors.print(f"[dim]{line}[/dim]", highlight=False)


_WIDE = 110  # columns, from which a table shows coordinates
_OTHERS = 36  # columns that confidence, scene, state and the gaps take

STATE_STYLES = {
    "geotagged": "green",
    "abstained": "yellow",
    "pending": "dim",
    "failed": "red",
    "quarantined": "magenta",
}


def as_record(row: ResultRow) -> dict[str, Any]:
    """The stable record of one photograph (docs/results.md); times as ISO 8601 with offset."""
    record = asdict(row)
    record["at"] = row.at.isoformat() if row.at else None
    return record


def as_feature(row: ResultRow) -> dict[str, Any]:
    """A GeoJSON feature (RFC 7946: longitude before latitude); no position, no geometry."""
    properties = as_record(row)
    longitude, latitude = properties.pop("longitude"), properties.pop("latitude")
    point = None if longitude is None else {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "geometry": point, "properties": properties}


def write_json(records: Iterable[dict[str, Any]], out: TextIO) -> None:
    """A JSON array, a line each, without holding it in memory."""
    _write_array("[", records, "]", out)


def write_geojson(features: Iterable[dict[str, Any]], out: TextIO) -> None:
    """A GeoJSON feature collection, a line each feature, without holding it in memory."""
    _write_array('{"type": "FeatureCollection", "features": [', features, "]}", out)


def _write_array(
    opening: str, records: Iterable[dict[str, Any]], closing: str, out: TextIO
) -> None:
    out.write(opening)
    separator = "\n"
    for record in records:
        out.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n"
    out.write(f"\n{closing}\n")


def write_csv(records: Iterable[dict[str, Any]], names: Iterable[str], out: TextIO) -> None:
    """CSV with a header (RFC 4180), without what a spreadsheet would take for formulas."""
    writer = csv.DictWriter(out, list(names))
    writer.writeheader()
    writer.writerows({name: no_formula(v) for name, v in record.items()} for record in records)


def no_formula(value: Any) -> Any:
    """Return a value that a spreadsheet does not run as a formula; only texts can be formulas."""
    return escape_formula(value) if isinstance(value, str) else value


def position_text(longitude: float | None, latitude: float | None) -> str:
    """A position as people write it, latitude first: `48.86° N, 2.29° E`."""
    if longitude is None or latitude is None:
        return "–"
    north = "N" if latitude >= 0 else "S"
    east = "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.2f}° {north}, {abs(longitude):.2f}° {east}"


def confidence_text(confidence: float | None) -> str:
    """A calibrated probability in per cent; a release that is not calibrated states none."""
    return "–" if confidence is None else f"{confidence:.0%}"


def results_table(rows: Iterable[ResultRow], near: Callable[[float, float], str]) -> Table:
    """The table of `results` and `demo`; `near` names what lies by a longitude and latitude.

    Where there is no place, its column says why. The table fits the terminal: a narrow one gets
    the end of a long key, and the place without its coordinates.
    """
    wide = console.width >= _WIDE
    place_width = 50 if wide else 24
    object_width = max(12, console.width - _OTHERS - place_width)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("object", no_wrap=True, max_width=object_width)
    table.add_column("place on Earth", no_wrap=True, max_width=place_width)
    table.add_column("confidence", justify="right", min_width=10)
    table.add_column("scene", min_width=7)
    table.add_column("state", min_width=9)
    for row in rows:
        place = Text(f"none: {row.code}" if row.code else "–")
        if row.longitude is not None and row.latitude is not None:
            place = plain(near(row.longitude, row.latitude))
            if wide:
                place.stylize("dim")
                place = Text.assemble(position_text(row.longitude, row.latitude), "  ", place)
        table.add_row(
            plain(_end_of(row.key, object_width)),
            place,
            confidence_text(row.confidence),
            row.scene or "–",
            Text(row.state, STATE_STYLES[row.state]),
        )
    return table


def _end_of(key: str, width: int) -> str:
    return key if len(key) <= width else f"…{key[max(1, len(key) + 1 - width) :]}"


def plain(text: str) -> Text:
    """Somebody else's text as it can be printed: no markup, no control characters."""
    return Text("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))


def write_results(
    rows: Iterable[ResultRow], form: Format, near: Callable[[float, float], str]
) -> None:
    """Results to standard output in the asked form."""
    if form is Format.TABLE:
        console.print(results_table(rows, near))
    elif form is Format.GEOJSON:
        write_geojson(map(as_feature, rows), sys.stdout)
    elif form is Format.JSON:
        write_json(map(as_record, rows), sys.stdout)
    else:
        write_csv(map(as_record, rows), [field.name for field in fields(ResultRow)], sys.stdout)


def at_most(rows: Iterator[ResultRow], most: int | None) -> Iterator[ResultRow]:
    """The first `most` rows, or all."""
    for number, row in enumerate(rows):
        if most is not None and number >= most:
            return
        yield row
