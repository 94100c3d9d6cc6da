"""An evaluation as tables for people: the short form of what the JSON and the page say in full."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from triton_models.evaluation.document import RADII, Document


def print_tables(document: Document, console: Console) -> None:
    """The document as tables for people."""
    console.print(_scores(document))
    first, *_others = document["systems"]
    for title, groups in (("by continent", "by_continent"), ("by scene", "by_scene")):
        if first[groups]:
            console.print(_groups(document["systems"], title, groups))
    for system in document["systems"]:
        if system["calibration"]:
            console.print(_calibration(system), highlight=False)
    for comparison in document["comparisons"]:
        console.print(_comparison(comparison))
    for title, found in (("left out", document["left_out"]), ("noted", document["noted"])):
        if found["total"]:
            console.print(_remarks(title, found))


def _table(*names: str, title: str | None = None) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    table.add_column(names[0], overflow="fold")
    for name in names[1:]:
        table.add_column(name, justify="right")
    return table


def _fixed(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _shares(accuracy: Document) -> list[str]:
    return [_fixed(accuracy[radius]) for radius in RADII]


def _scores(document: Document) -> Table:
    known = document["benchmark"]
    title = f"{known['name']}, {known['scored']} of {known['photographs']}" if known else None
    radii = [f"{radius} km" for radius in RADII]
    table = _table("system", "n", *radii, "median km", "mean km", "GeoGuessr", title=title)
    for s in document["systems"]:
        others = [_fixed(s["median_km"]), _fixed(s["mean_km"], 0), _fixed(s["geoguessr"], 0)]
        table.add_row(escape(s["name"]), f"{s['n']:,}", *_shares(s["accuracy"]), *others)
        spans = [_span(s["intervals"]["accuracy"][radius]) for radius in RADII]
        spans += [_span(s["intervals"]["median_km"]), _span(s["intervals"]["mean_km"], 0)]
        spans.append(_span(s["intervals"]["geoguessr"], 0))
        answered = f"  {100 * s['answered'] / s['n']:.1f} % answered"
        table.add_row(answered, "", *spans, style="dim")
    if document["published"]:
        table.add_row("[bold]published, not run here[/bold]")
    for row in document["published"]:
        table.add_row(
            f"{escape(row['method'])} [dim](published)[/dim]", "", *_shares(row["accuracy"])
        )
    return table


def _span(interval: Sequence[float | None], digits: int = 1) -> str:
    return "–".join(_fixed(end, digits) for end in interval)


def _groups(systems: Sequence[Document], title: str, groups: str) -> Table:
    table = _table("system", title, "n", *(f"{radius} km" for radius in RADII), "median km")
    for s in systems:
        for name, g in s[groups].items():
            cells = [f"{g['n']:,}", *_shares(g["accuracy"]), _fixed(g["median_km"])]
            table.add_row(escape(s["name"]), escape(name), *cells)
    return table


def _calibration(system: Document) -> str:
    c: dict[str, Any] = system["calibration"]
    return (
        f"{escape(system['name'])}: confidence within {c['radius_km']:g} km, {c['n']:,} answers:"
        f" calibration error {c['ece']:.3f},"
        f" Brier {c['brier']:.4f} (best constant {c['brier_constant']:.4f}),"
        f" NLL {c['nll']:.4f} (best constant {c['nll_constant']:.4f})"
    )


def _comparison(pair: Document) -> Table:
    title = f"{escape(pair['first'])} − {escape(pair['second'])}, on the same photographs"
    table = _table("within", "points", "95 % interval", "McNemar p", "bootstrap p", title=title)
    for radius in RADII:
        c = pair["accuracy"][radius]
        low, high = c["interval"]
        ends = f"{low:+.1f} to {high:+.1f}"
        p = (f"{c['mcnemar_p']:.2g}", f"{c['bootstrap_p']:.2g}")
        table.add_row(f"{radius} km", f"{c['difference']:+.1f}", ends, *p)
    return table


def _remarks(title: str, found: Document) -> Table:
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
        title=f"{title}: {found['total']:,} rows",
        title_justify="left",
    )
    for name in ("file", "why", "rows", "for example"):
        table.add_column(name, justify="right" if name == "rows" else "left", overflow="fold")
    for group in found["reasons"]:
        named = (f"line {r['line']}" if r["line"] else r["id"] or "" for r in group["sample"][:5])
        cells = (group["source"], group["reason"], f"{group['count']:,}", ", ".join(named))
        table.add_row(*map(escape, cells))
    return table
