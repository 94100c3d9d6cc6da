"""`geotag train`: from labelled photographs to a checkpoint."""

import typer

app = typer.Typer(no_args_is_help=True, help="Train networks.")
