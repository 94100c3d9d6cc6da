"""`geotag metrics`: what the ledger knows, for Prometheus."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Watch it from outside.")


@app.command()
def metrics(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to answer on.")] = 9464,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 is everybody's.")] = "127.0.0.1",
) -> None:
    """Serve Prometheus metrics of the ledger: queues, ages, failures, schedules that are due.

    One for each ledger. What workers count they serve themselves: geotag worker --metrics-port.
    """
    from geotag.context import context
    from geotag.ledger_metrics import serve

    serve(context(), host, port)
