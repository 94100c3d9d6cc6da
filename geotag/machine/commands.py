"""Commands on this machine's processes: the local stack, workers, metrics, `doctor`, `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="The local stack and its processes.")


@app.command()
def up() -> None:
    """Start the missing services of the local stack: PostGIS, S3, broker, Triton, workers."""
    from geotag.machine import stack
    from geotag.output import errors, progress_line
    from geotag.settings import gather

    _context, running = stack.up(gather(), progress_line)
    for name, answer in running.answers.items():
        errors.print(f"[green]up[/green] {name}: {answer}", highlight=False)


@app.command()
def down() -> None:
    """Stop the local stack. Its data are kept; `geotag up` continues unfinished work."""
    from deploy.local import stack
    from geotag.settings import gather

    stack.down(gather().stack)


@app.command()
def doctor(wide: WideOption = False) -> None:
    """Check the machine, the settings and every service, and print advice for each problem."""
    from geotag.machine.doctor import diagnose

    raise typer.Exit(diagnose(wide=wide))


@app.command()
def demo(
    photos: Annotated[
        Path | None,
        typer.Argument(help="Folder of photographs. Default: samples from Python packages."),
    ] = None,
) -> None:
    """Start the local stack, geotag sample photographs, and show the results."""
    from geotag.machine import demo as demonstration
    from geotag.machine import stack
    from geotag.output import progress_line
    from geotag.settings import gather

    context, running = stack.up(gather(), progress_line)
    folders = [photos] if photos else demonstration.sample_folders(context.settings.stack.data_dir)
    raise typer.Exit(demonstration.demo(context, folders, running.psql))


@app.command()
def worker(
    queue: Annotated[
        str, typer.Option(help="backfill, interactive, control or planning.")
    ] = "backfill",
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes; each works on one chunk at a time.")
    ] = 1,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of the metrics; 0.0.0.0 accepts all hosts.")
    ] = "127.0.0.1",
) -> None:
    """Work on a queue until SIGTERM, which finishes the chunks in progress."""
    from geotag.machine.worker import work

    work(queue, processes, log_level, metrics_port, metrics_host)


@app.command()
def beat(
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "WARNING",
) -> None:
    """Send the ticks of the control loop every few seconds (Celery beat).

    Several may run at once: each night is started once.
    """
    from geotag.machine.worker import beat as send

    send(log_level)


@app.command()
def metrics(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9464,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 accepts all hosts.")] = "127.0.0.1",
) -> None:
    """Serve Prometheus metrics of the ledger: queues, ages, failures, due schedules.

    Run one per ledger. Workers serve their own metrics: geotag worker --metrics-port.
    """
    from geotag.context import make_context
    from geotag.machine.ledger_metrics import serve

    serve(make_context(), host, port)
