"""`geotag archive`: which archives may be read, and how."""

import typer

app = typer.Typer(no_args_is_help=True, help="Register the archives that may be read.")
