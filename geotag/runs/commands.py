"""Commands on runs: `run`, `locate`, `status`, `pause`, `resume`, `cancel`."""

from typing import Annotated

import typer

from geotag import exits
from geotag.formats import Format
from geotag.options import FormatOption, RunOption, WideOption

app = typer.Typer(no_args_is_help=True, help="Runs.")

RunArgument = Annotated[int, typer.Argument(help="The run's number: geotag status.", min=1)]


@app.command()
def run(
    source: Annotated[
        str,
        typer.Argument(
            help="An archive's name, s3://bucket/prefix of a registered one, a manifest (.csv or"
            " .parquet with a column of s3:// URLs), or a folder, which is uploaded first."
        ),
    ],
    inventory: Annotated[
        str | None,
        typer.Option(
            help="Read this S3 Inventory (s3://…/manifest.json) instead of listing the archive."
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="The inventory covers a part of the archive: mark nothing as vanished.",
        ),
    ] = False,
    allow_vanish: Annotated[
        bool,
        typer.Option(
            "--allow-vanish",
            help="Mark what the listing lacks as vanished, even if that is most of the archive.",
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Watch it to its end; with --no-wait, only queue it.")
    ] = True,
) -> None:
    """Geotag all objects of a source that have no outcome yet.

    Ctrl-C does not stop the work: `geotag status --watch` follows it, and the same command again
    resumes it. Exit code 0: every object is geotagged or abstained; 3: some failed; 2: wrong usage
    or settings; 4: a service did not answer.
    """
    from geotag.context import make_context
    from geotag.runs import run as jobs
    from geotag.runs.watch import report

    context = make_context()
    what = jobs.source_of(context, source, inventory_url=inventory, partial=partial)
    progress, seconds = jobs.run(context, what, wait=wait, allow_vanish=allow_vanish)
    raise typer.Exit(report(context, progress, seconds) if progress else exits.OK)


@app.command()
def locate(
    what: Annotated[
        str,
        typer.Argument(help="A file, an s3:// URL, or an https:// URL of a registered endpoint."),
    ],
    form: FormatOption = Format.TABLE,
    wide: WideOption = False,
) -> None:
    """Geotag one picture now, ahead of any backfill, and print the result."""
    from geotag.context import make_context
    from geotag.results.show import print_shown
    from geotag.runs import run as jobs

    context = make_context()
    progress, bucket, key = jobs.locate(context, what)
    # Another release may have been activated meanwhile.
    print_shown(context, bucket, key, form, release=progress.release, wide=wide)
    failed = progress.failed + progress.quarantined + progress.failed_before
    raise typer.Exit(exits.SOME_FAILED if failed else exits.OK)


@app.command()
def status(
    run_id: RunOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the run, or the newest one.")
    ] = False,
    form: FormatOption = Format.TABLE,
    wide: WideOption = False,
) -> None:
    """Print the progress of the newest runs, and the number of objects in each state.

    With --watch: rate, time left, queue, failures by code, and what it waits for. With --format
    json as well: a JSON object every two seconds. The exit code is that of geotag run.
    """
    from geotag.context import make_context
    from geotag.runs.status import print_status
    from geotag.runs.watch import follow

    if watch:
        raise typer.Exit(follow(make_context(), run_id, form))
    print_status(make_context(), run_id, form, wide=wide)


@app.command()
def pause(run: RunArgument) -> None:
    """Send no chunk of a run to workers until it is resumed; chunks in work are finished."""
    _change(run, "pause")


@app.command()
def resume(run: RunArgument) -> None:
    """Resume a paused run, or plan a parked run again."""
    _change(run, "resume")


@app.command()
def cancel(run: RunArgument) -> None:
    """End a run for good. Objects without an outcome stay pending, for the next run over them."""
    _change(run, "cancel")


def _change(run: int, what: str) -> None:
    from geotag.context import make_context
    from geotag.runs import control

    control.change(make_context(), run, what)
