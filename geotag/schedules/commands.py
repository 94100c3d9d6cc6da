"""Commands on schedules: `geotag schedule add`, `list`, `show`, `pause`, `resume`, `remove`."""

from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Schedule nightly backfills of archives.")

ArchiveArgument = Annotated[str, typer.Argument(help="The archive's name.")]
FormOption = Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")]


@app.command()
def add(
    archive: ArchiveArgument,
    cron: Annotated[
        str,
        typer.Option(
            help="Start times as cron: minute, hour, day of the month, month, day of the week."
        ),
    ],
    timezone: Annotated[
        str, typer.Option(help="Time zone of --cron and --window, such as Europe/Berlin.")
    ] = "UTC",
    window: Annotated[
        str | None,
        typer.Option(help="Local time in which chunks are sent to workers, such as 22:00-06:00."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="Objects per night, at most.")
    ] = None,
    release: Annotated[
        str,
        typer.Option(help="Release to use; active: the one that is active when the night starts."),
    ] = "active",
) -> None:
    """Backfill an archive at the times of a cron expression.

    docs/schedules.md explains daylight saving time and missed nights.
    """
    from db.schedules import ScheduleSpec
    from geotag.context import make_context
    from geotag.schedules import schedule

    opens, closes = schedule.window_of(window) if window else (None, None)
    named = None if release == "active" else release
    schedule.add(make_context(), archive, ScheduleSpec(cron, timezone, opens, closes, most, named))


@app.command("list")
def list_(form: FormOption = ListFormat.TABLE, wide: WideOption = False) -> None:
    """List the schedules, each with its next night."""
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.print_schedules(make_context(), form, wide=wide)


@app.command()
def show(archive: ArchiveArgument, form: FormOption = ListFormat.TABLE) -> None:
    """Show an archive's schedule, its last nights with their runs, and its next nights."""
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.print_schedule(make_context(), archive, form)


@app.command()
def pause(archive: ArchiveArgument) -> None:
    """Skip nights until the schedule is resumed. Skipped nights are not caught up."""
    _change(archive, "pause")


@app.command()
def resume(archive: ArchiveArgument) -> None:
    """Resume a paused schedule at its next night."""
    _change(archive, "resume")


@app.command()
def remove(archive: ArchiveArgument) -> None:
    """Remove a schedule. The runs and results of its nights stay."""
    _change(archive, "remove")


def _change(archive: str, what: str) -> None:
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.change(make_context(), archive, what)
