"""`geotag failures` and `geotag retry`: what failed, why, and doing it again."""

import typer

app = typer.Typer(no_args_is_help=True, help="What failed, and doing it again.")
