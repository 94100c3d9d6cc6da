"""Commands on schedules: `geotag schedule add`, `list`, `show`, `pause`, `resume`, `remove`."""

from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Backfill archives by themselves, every night.")

ArchiveArgument = Annotated[str, typer.Argument(help="The archive's name.")]
FormOption = Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")]


@app.command()
def add(
    archive: ArchiveArgument,
    cron: Annotated[
        str,
        typer.Option(
            help="When a night begins: minute, hour, day of the month, month, day of the week."
        ),
    ],
    timezone: Annotated[
        str, typer.Option(help="Time zone of it and of the window, such as Europe/Berlin.")
    ] = "UTC",
    window: Annotated[
        str | None,
        typer.Option(help="Photographs are only sent to workers in it: 22:00-06:00, local time."),
    ] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Objects a night.")] = None,
    release: Annotated[
        str, typer.Option(help="Which is to answer; active: the one that is when the night comes.")
    ] = "active",
) -> None:
    """Backfill an archive at the times of a cron expression.

    Changes of the clock, and nights that were missed: docs/schedules.md.
    """
    from db.schedules import ScheduleSpec
    from geotag.context import make_context
    from geotag.schedules import schedule

    opens, closes = schedule.window_of(window) if window else (None, None)
    named = None if release == "active" else release
    schedule.add(make_context(), archive, ScheduleSpec(cron, timezone, opens, closes, most, named))


@app.command("list")
def list_(form: FormOption = ListFormat.TABLE, wide: WideOption = False) -> None:
    """Every schedule, with its next night."""
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.print_schedules(make_context(), form, wide=wide)


@app.command()
def show(archive: ArchiveArgument, form: FormOption = ListFormat.TABLE) -> None:
    """An archive's schedule, its last nights with their runs, and its next ones."""
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.print_schedule(make_context(), archive, form)


@app.command()
def pause(archive: ArchiveArgument) -> None:
    """Skip nights until the schedule is resumed; they are not caught up."""
    _change(archive, "pause")


@app.command()
def resume(archive: ArchiveArgument) -> None:
    """Go on with the next night."""
    _change(archive, "resume")


@app.command()
def remove(archive: ArchiveArgument) -> None:
    """Remove a schedule. The runs and results of its nights stay."""
    _change(archive, "remove")


def _change(archive: str, what: str) -> None:
    from geotag.context import make_context
    from geotag.schedules import schedule

    schedule.change(make_context(), archive, what)
