"""`geotag pause`, `resume`, `cancel`: take hold of a run that is under way."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Take hold of a run.")

RunArgument = Annotated[int, typer.Argument(help="The run's number: geotag status.", min=1)]


@app.command()
def pause(run: RunArgument) -> None:
    """Send nothing of a run to the workers until it is resumed; what they are at is finished."""
    _change(run, "pause")


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a paused run."""
    _change(run, "resume")


@app.command()
def cancel(run: RunArgument) -> None:
    """End a run for good. Objects without an outcome stay pending, for the next run over them."""
    _change(run, "cancel")


def _change(run: int, what: str) -> None:
    from geotag import take_hold
    from geotag.context import context

    take_hold.change(context(), run, what)
