"""`geotag schedule`: what is backfilled by itself, and when."""

import typer

app = typer.Typer(no_args_is_help=True, help="Backfill archives by themselves, every night.")
