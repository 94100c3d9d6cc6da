"""`geotag models`: the releases at hand, which one answers, and how they are served."""

import typer

app = typer.Typer(no_args_is_help=True, help="Releases: list, build, register, activate.")
