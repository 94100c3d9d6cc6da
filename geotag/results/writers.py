"""Write results as a table, JSON, CSV or GeoJSON."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

from db.reads import ResultRow
from geotag.formats import Format
from geotag.output import write_csv, write_geojson, write_json
from geotag.results.table import print_results


def as_record(row: ResultRow) -> dict[str, Any]:
    """Return the stable record of a photograph (docs/results.md); times are ISO 8601."""
    record = asdict(row)
    record["at"] = row.at.isoformat() if row.at else None
    return record


def as_feature(row: ResultRow) -> dict[str, Any]:
    """Return a GeoJSON feature (RFC 7946); its geometry is null if there is no position."""
    properties = as_record(row)
    longitude, latitude = properties.pop("longitude"), properties.pop("latitude")
    point = None if longitude is None else {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "geometry": point, "properties": properties}


def write_results(
    rows: Iterable[ResultRow],
    form: Format,
    near: Callable[[float, float], str],
    *,
    wide: bool = False,
) -> None:
    """Write results to standard output in a format; `wide` is for the table."""
    if form is Format.TABLE:
        print_results(rows, near, wide=wide)
    elif form is Format.GEOJSON:
        write_geojson(map(as_feature, rows), sys.stdout)
    elif form is Format.JSON:
        write_json(map(as_record, rows), sys.stdout)
    else:
        write_csv(map(as_record, rows), [field.name for field in fields(ResultRow)], sys.stdout)


def at_most(rows: Iterator[ResultRow], most: int | None) -> Iterator[ResultRow]:
    """Yield the first `most` rows, or all."""
    for number, row in enumerate(rows):
        if most is not None and number >= most:
            return
        yield row
