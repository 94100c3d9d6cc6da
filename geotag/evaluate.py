"""`geotag evaluate`: how good are these predictions, and beside others?"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.reads import ResultRow
from geotag.output import as_record, errors
from triton_models.evaluation.document import RADII, Document, evaluate
from triton_models.evaluation.matching import Matched, known_truths, match
from triton_models.evaluation.predictions import Predictions, predictions_of, read_predictions
from triton_models.evaluation.published_results import (
    Benchmark,
    benchmark_named,
    recognised,
    size_hint,
)
from triton_models.evaluation.report import html_report
from triton_models.evaluation.tables import EvaluationError
from triton_models.evaluation.truth import Truths, read_truths, with_pictures
from workers.errors import UsageError

FORMATS = ("table", "json", "html")
_TABLE_WIDTH = 120
"""Of a table that goes to a file, whatever the terminal's width."""


def run_evaluation(
    *,
    images: Path | None = None,
    run: int | None = None,
    predictions: Sequence[Path] = (),
    truth: Path | None = None,
    form: str = "table",
    output: Path | None = None,
    benchmark: str | None = None,
    results_for_folder: Callable[[Path], Iterable[ResultRow]],
    results_for_run: Callable[[int], Iterable[ResultRow]],
) -> None:
    """Evaluate one or several systems and print or write the outcome.

    Args:
        images: a folder; `results_for_folder` geotags it, and truths without a file there are
            left out.
        run: a run in the ledger, whose results `results_for_run` reads.
        predictions: files of predictions, a system each.
        truth: a CSV; not needed where every photograph's truth is in a file of predictions.
        form: one of FORMATS.
        output: the file to write; standard output where none is given.
        benchmark: its published results stand beside; without a name it is recognised by its ids.
        results_for_folder: the way through the running system.
        results_for_run: the way to the ledger.

    Raises:
        UsageError: nothing to evaluate, a file that cannot be read, or nothing that matches.
    """
    if form not in FORMATS:
        raise UsageError(f"no format {form}: {', '.join(FORMATS)}")
    if images is None and run is None and not predictions:
        raise UsageError("nothing to evaluate: give --images, --run or --predictions")
    if truth is None and (images is not None or run is not None):
        raise UsageError("nothing says where the photographs were taken: give --truth")
    if images is not None and not images.is_dir():
        raise UsageError(f"{images}: no such folder")
    try:
        # What can be refused is read before a folder is geotagged for an hour.
        named = benchmark_named(benchmark) if benchmark else None
        truths = read_truths(truth) if truth else None
        systems = [read_predictions(p, name) for p, name in _names(predictions)]
        if run is not None:
            systems.insert(0, _ours(f"run {run}", results_for_run(run)))
        if images is not None:
            systems.insert(0, _ours(images.resolve().name, results_for_folder(images)))
        document, matched = _evaluate(truths, systems, images, named)
    except EvaluationError as error:
        raise UsageError(str(error)) from error
    _write(_rendered(document, matched, form, to_file=output is not None), output)


def _evaluate(
    truths: Truths | None,
    systems: Sequence[Predictions],
    images: Path | None,
    benchmark: Benchmark | None,
) -> tuple[Document, Matched]:
    known = known_truths(truths, systems)
    benchmark = benchmark or recognised(known.ids)
    hint = size_hint(len(known)) if benchmark is None else None
    if hint:
        errors.print(hint, markup=False, highlight=False)
    if images is not None:
        known = with_pictures(known, images)
    matched = match(known, systems)
    return evaluate(matched, benchmark), matched


def _names(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """A name for each file: its stem, or all of its path where two have the same stem."""
    stems = [path.stem for path in paths]
    return [
        (path, stem if stems.count(stem) == 1 else str(path))
        for path, stem in zip(paths, stems, strict=True)
    ]


def _ours(name: str, rows: Iterable[ResultRow]) -> Predictions:
    return predictions_of(map(as_record, rows), name, name)


def _rendered(document: Document, matched: Matched, form: str, *, to_file: bool) -> str:
    if form == "json":
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    if form == "html":
        return html_report(document, matched)
    out = StringIO()
    on_terminal = sys.stdout.isatty() and not to_file
    width = None if on_terminal else _TABLE_WIDTH
    print_tables(document, Console(file=out, width=width, force_terminal=on_terminal))
    return out.getvalue()


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from error
    errors.print(f"written: {output}", markup=False, highlight=False)


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
