"""`geotag evaluate`: score systems against ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from geotag.formats import ReportFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Evaluation.")


@app.command()
def evaluate(
    images: Annotated[
        Path | None, typer.Option(help="Geotag this folder and score the results.")
    ] = None,
    run_id: Annotated[int | None, typer.Option("--run", help="Score the results of a run.")] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(help="Score a file of predictions, ours or as other projects publish theirs."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="CSV with an id or file name and a position for each row.")
    ] = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print it.")
    ] = ReportFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Im2GPS, Im2GPS3k, YFCC4k or YFCC26k, if the ids do not tell."),
    ] = None,
    wide: WideOption = False,
) -> None:
    """Score one or more systems against ground truth; see docs/evaluation.md."""
    from geotag.evaluation.evaluate import run_evaluation
    from geotag.evaluation.scored import results_of_folder, results_of_run

    run_evaluation(
        images=images,
        run=run_id,
        predictions=predictions or (),
        truth=truth,
        form=form,
        output=output,
        benchmark=benchmark,
        wide=wide,
        results_for_folder=results_of_folder,
        results_for_run=results_of_run,
    )
