"""`geotag train` and `geotag scenes`: train a network from a table of photographs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train networks.")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/training.md has its keys.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the stopped run in its folder.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value, such as training.batch=64; can be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run will be, and train nothing.")
    ] = False,
) -> None:
    """Train a TransLocator from a table of photographs with their places.

    Ctrl-C stops after the current step and writes a checkpoint. --resume continues from it, and
    reaches the same weights.
    For several GPUs: torchrun --nproc-per-node 8 --no-python geotag train …
    Exit code 0: trained; 2: wrong usage or configuration, or the loss became NaN; 4: the archive
    is unavailable; 130: stopped.
    """
    from geotag.training.train import dry, run

    if dry_run:
        dry(config, changes or (), resume=resume)
    else:
        raise typer.Exit(run(config, changes or (), resume=resume))


@app.command()
def scenes(
    table: Annotated[Path, typer.Argument(help="CSV of photographs, as geotag train reads it.")],
    photos: Annotated[
        str, typer.Option(help="Where its files are: a folder, or s3://bucket/prefix.")
    ],
    out: Annotated[Path, typer.Option(help="CSV to write: the same with a column scene.")],
) -> None:
    """Fill in the missing scenes of a table with an ImageNet classifier.

    Labels are indoor, natural or urban; uncertain ones stay empty. Existing scenes and rows of the
    validation split are not changed. docs/training.md gives the accuracy.
    """
    from geotag.training.scenes import run

    run(table, photos, out)
