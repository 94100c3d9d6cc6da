"""`geotag pause`, `resume`, `cancel`: take hold of a run that is under way."""

import typer

app = typer.Typer(no_args_is_help=True, help="Take hold of a run.")
