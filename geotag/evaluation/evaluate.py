"""`geotag evaluate`: how good are these predictions, and beside others?"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from db.reads import ResultRow
from geotag.evaluation.tables import print_tables
from geotag.output import errors
from geotag.results.writers import as_record
from triton_models.evaluation.document import Document, evaluate
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
