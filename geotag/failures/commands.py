"""Commands on failed objects: `geotag failures` and `geotag retry`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="List failed objects and retry them.")

_LANGUAGE = (
    "A filter, such as \"code = 's3_unavailable' and archive = 'x' and day >= 2026-11-01\";"
    " docs/failures.md describes the language."
)
WhereOption = Annotated[str | None, typer.Option(help=_LANGUAGE)]


class By(StrEnum):
    """Group failures are counted by."""

    CODE = "code"
    ARCHIVE = "archive"
    DAY = "day"


@app.command("failures")
def failures_(
    by: Annotated[By, typer.Option(help="Count by code, or by code within archives or days.")] = (
        By.CODE
    ),
    keys: Annotated[
        bool, typer.Option("--keys", help="List each object instead of counts.")
    ] = False,
    run: Annotated[int | None, typer.Option(help="Only failures that this run recorded.")] = None,
    archive: Annotated[str | None, typer.Option(help="Only in this archive.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Only failures since this day (UTC)."),
    ] = None,
    where: WhereOption = None,
    form: Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")] = (
        ListFormat.TABLE
    ),
    wide: WideOption = False,
) -> None:
    """Count failed and quarantined objects by code, with an example and advice for each.

    Counts those under the active release, or with --run those under the run's release.
    """
    from geotag.context import make_context
    from geotag.failures.failed_objects import asked_for, print_counts, print_keys

    asked = asked_for(where=where, run=run, archive=archive, since=since and since.date())
    if keys:
        print_keys(make_context(), asked, form, any_release=run is not None, wide=wide)
    else:
        found = run is not None
        print_counts(make_context(), by.value, asked, form, any_release=found, wide=wide)


@app.command()
def retry(
    where: WhereOption = None,
    run: Annotated[
        int | None, typer.Option(help="Objects that this run recorded as failed.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="One object: s3://bucket/key.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print how many, by code; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Retry the failed objects that match, as a new run. Old outcomes are kept as history.

    An object must match all given options. A second, concurrent retry finds nothing to do.
    """
    from geotag.context import make_context
    from geotag.failures.failed_objects import asked_for, try_again

    asked = asked_for(where=where, run=run, url=key)
    try_again(make_context(), asked, dry_run=dry_run, yes=yes)
