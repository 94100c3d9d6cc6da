"""`geotag evaluate`: score predictions against ground truth, beside published results."""

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


def run_evaluation(
    *,
    images: Path | None = None,
    run: int | None = None,
    predictions: Sequence[Path] = (),
    truth: Path | None = None,
    form: str = "table",
    output: Path | None = None,
    benchmark: str | None = None,
    wide: bool = False,
    results_for_folder: Callable[[Path], Iterable[ResultRow]],
    results_for_run: Callable[[int], Iterable[ResultRow]],
) -> None:
    """Evaluate one or several systems, and print or write the scores.

    Args:
        images: a folder, geotagged by `results_for_folder`. Truths without a file there are left
            out.
        run: a run in the ledger, read by `results_for_run`.
        predictions: files of predictions, one system each.
        truth: a CSV; not needed if the files of predictions have the truth of every photograph.
        form: one of FORMATS.
        output: the file to write; None is standard output.
        benchmark: its published results are printed too; None means recognised by its ids.
        wide: show names in full, however wide the tables become.
        results_for_folder: geotag a folder; return its results.
        results_for_run: read a run's results.

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
        # Read all files first: geotagging a folder takes long.
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
    if form == "table":
        text = _tables(document, terminal=output is None and sys.stdout.isatty(), wide=wide)
    elif form == "json":
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    else:
        text = html_report(document, matched)
    _write(text, output)


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
    """Return a name for each file: its stem, or its path if two files have the same stem."""
    stems = [path.stem for path in paths]
    return [
        (path, stem if stems.count(stem) == 1 else str(path))
        for path, stem in zip(paths, stems, strict=True)
    ]


def _ours(name: str, rows: Iterable[ResultRow]) -> Predictions:
    return predictions_of(map(as_record, rows), name, name)


def _tables(document: Document, *, terminal: bool, wide: bool) -> str:
    """Return the tables as text; a width limits them only on a terminal."""
    out = StringIO()
    print_tables(document, Console(file=out, force_terminal=terminal), wide=wide)
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
