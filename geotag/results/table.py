"""The table of `geotag results` and `geotag demo`."""

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from db.reads import ResultRow
from geotag.output import console, plain
from geotag.tables import STATE_STYLES, Column, Row, Shorten, key_column, print_table, width_of

_WITH_COORDINATES = 110
"""Cells in a line from which the table shows coordinates."""

_COLUMNS = (
    key_column("object"),
    Column("place on Earth", Shorten.END, least=24),
    Column("confidence", right=True),
    Column("scene"),
    Column("state"),
)


def position_text(longitude: float | None, latitude: float | None) -> str:
    """Return a position, latitude first: `48.86° N, 2.29° E`."""
    if longitude is None or latitude is None:
        return "–"
    north = "N" if latitude >= 0 else "S"
    east = "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.2f}° {north}, {abs(longitude):.2f}° {east}"


def confidence_text(confidence: float | None) -> str:
    """Return a calibrated probability in per cent; `–` if the release is not calibrated."""
    return "–" if confidence is None else f"{confidence:.0%}"


def print_results(
    rows: Iterable[ResultRow],
    near: Callable[[float, float], str],
    *,
    wide: bool = False,
    to: Console | None = None,
) -> None:
    """Print one line for each result.

    Args:
        rows: the results.
        near: names what lies near a longitude and latitude.
        wide: show every key in full.
        to: another console than that of standard output.
    """
    width = width_of(to or console, wide)
    with_coordinates = width is None or width >= _WITH_COORDINATES
    cells = (_cells(row, near, with_coordinates) for row in rows)
    print_table(_COLUMNS, cells, wide=wide, to=to)


def _cells(row: ResultRow, near: Callable[[float, float], str], with_coordinates: bool) -> Row:
    place = Text(f"none: {row.code}" if row.code else "–")
    if row.longitude is not None and row.latitude is not None:
        place = plain(near(row.longitude, row.latitude))
        if with_coordinates:
            place.stylize("dim")
            place = Text.assemble(position_text(row.longitude, row.latitude), "  ", place)
    return (
        plain(row.key),
        place,
        confidence_text(row.confidence),
        row.scene or "–",
        Text(row.state, STATE_STYLES[row.state]),
    )
