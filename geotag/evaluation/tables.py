"""An evaluation as tables: the short form of what the JSON document and the page contain."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from geotag.output import plain
from geotag.tables import (
    Cell,
    Column,
    Row,
    Shorten,
    key_column,
    number_column,
    print_table,
    prose_column,
    shortened,
    width_of,
)
from triton_models.evaluation.document import RADII, Document

_RADII = tuple(number_column(f"{radius} km") for radius in RADII)


def print_tables(document: Document, console: Console, *, wide: bool = False) -> None:
    """Print a document as tables.

    Args:
        document: what was evaluated.
        console: where to print.
        wide: show every name in full, however wide the tables become.
    """
    _print_scores(document, console, wide)
    first, *_others = document["systems"]
    for title, groups in (("by continent", "by_continent"), ("by scene", "by_scene")):
        if first[groups]:
            _print_groups(document["systems"], title, groups, console, wide)
    for system in document["systems"]:
        if system["calibration"]:
            console.print(plain(_calibration(system)), soft_wrap=True)
    for comparison in document["comparisons"]:
        _print_comparison(comparison, console, wide)
    for title, found in (("left out", document["left_out"]), ("noted", document["noted"])):
        if found["total"]:
            _print_remarks(title, found, console, wide)


def _fixed(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _shares(accuracy: Document) -> list[str]:
    return [_fixed(accuracy[radius]) for radius in RADII]


def _print_scores(document: Document, console: Console, wide: bool) -> None:
    known = document["benchmark"]
    title = f"{known['name']}, {known['scored']} of {known['photographs']}" if known else ""
    others = ("median km", "mean km", "GeoGuessr")
    columns = (key_column("system"), number_column("n"), *_RADII, *map(number_column, others))
    rows = [row for system in document["systems"] for row in _scores(system)]
    if document["published"]:
        rows.append((Text("published results", "bold"), *[""] * (len(columns) - 1)))
    for published in document["published"]:
        method = f"  {published['method']}"
        rows.append((method, "", *_shares(published["accuracy"]), *[""] * len(others)))
    print_table(columns, rows, wide=wide, title=title, labels=1, to=console)


def _scores(system: Document) -> list[Row]:
    """Return a system's figures, and its intervals below them."""
    s, intervals = system, system["intervals"]
    figures: Row = (
        s["name"],
        f"{s['n']:,}",
        *_shares(s["accuracy"]),
        _fixed(s["median_km"]),
        _fixed(s["mean_km"], 0),
        _fixed(s["geoguessr"], 0),
    )
    spans = (
        f"  {100 * s['answered'] / s['n']:.1f} % answered",
        "",
        *(_span(intervals["accuracy"][radius]) for radius in RADII),
        _span(intervals["median_km"]),
        _span(intervals["mean_km"], 0),
        _span(intervals["geoguessr"], 0),
    )
    return [figures, [Text(cell, "dim") for cell in spans]]


def _span(interval: Sequence[float | None], digits: int = 1) -> str:
    return "–".join(_fixed(end, digits) for end in interval)


def _print_groups(
    systems: Sequence[Document], title: str, groups: str, console: Console, wide: bool
) -> None:
    columns = (
        key_column("system"),
        Column(title),
        number_column("n"),
        *_RADII,
        number_column("median km"),
    )
    rows = [
        (s["name"], name, f"{g['n']:,}", *_shares(g["accuracy"]), _fixed(g["median_km"]))
        for s in systems
        for name, g in s[groups].items()
    ]
    print_table(columns, rows, wide=wide, labels=2, to=console)


def _calibration(system: Document) -> str:
    c: dict[str, Any] = system["calibration"]
    return (
        f"{system['name']}: confidence within {c['radius_km']:g} km, {c['n']:,} answers:"
        f" calibration error {c['ece']:.3f},"
        f" Brier {c['brier']:.4f} (best constant {c['brier_constant']:.4f}),"
        f" NLL {c['nll']:.4f} (best constant {c['nll_constant']:.4f})"
    )


def _print_comparison(pair: Document, console: Console, wide: bool) -> None:
    width, end = width_of(console, wide), ", on the same photographs"
    first, second = plain(pair["first"]), plain(pair["second"])
    if width is not None:  # both names are to be seen
        room = (width - len(f" − {end}")) // 2
        first, second = (shortened(name, room, Shorten.MIDDLE) for name in (first, second))
    title = f"{first} − {second}{end}"
    names = ("within", "points", "95 % interval", "McNemar p", "bootstrap p")
    rows: list[Row] = []
    for radius in RADII:
        c = pair["accuracy"][radius]
        low, high = c["interval"]
        p = (f"{c['mcnemar_p']:.2g}", f"{c['bootstrap_p']:.2g}")
        rows.append((f"{radius} km", f"{c['difference']:+.1f}", f"{low:+.1f} to {high:+.1f}", *p))
    print_table([*map(number_column, names)], rows, wide=wide, title=title, labels=1, to=console)


def _print_remarks(title: str, found: Document, console: Console, wide: bool) -> None:
    columns = (
        key_column("file"),
        Column("why"),
        number_column("rows"),
        prose_column("for example"),
    )
    rows: list[Sequence[Cell]] = []
    for group in found["reasons"]:
        named = (f"line {r['line']}" if r["line"] else r["id"] or "" for r in group["sample"][:5])
        count = f"{group['count']:,}"
        rows.append((group["source"], group["reason"], count, ", ".join(named)))
    print_table(columns, rows, wide=wide, title=f"{title}: {found['total']:,} rows", to=console)
