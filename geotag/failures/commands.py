"""`geotag failures` and `geotag retry`: what failed, why, and doing it again."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="What failed, and doing it again.")

_LANGUAGE = (
    "A filter, such as \"code = 's3_unavailable' and archive = 'x' and day >= 2026-11-01\";"
    " docs/failures.md has the language."
)
WhereOption = Annotated[str | None, typer.Option(help=_LANGUAGE)]


class By(StrEnum):
    """What failures are counted by."""

    CODE = "code"
    ARCHIVE = "archive"
    DAY = "day"


@app.command("failures")
def failures_(
    by: Annotated[By, typer.Option(help="Count by code, or by code within archives or days.")] = (
        By.CODE
    ),
    keys: Annotated[bool, typer.Option("--keys", help="List each object instead.")] = False,
    run: Annotated[int | None, typer.Option(help="Only those that this run recorded.")] = None,
    archive: Annotated[str | None, typer.Option(help="Only in this archive.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only from this day on (UTC).")
    ] = None,
    where: WhereOption = None,
    form: Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")] = (
        ListFormat.TABLE
    ),
    wide: WideOption = False,
) -> None:
    """What failed or is in quarantine now, how often, an example of each, and what to do about it.

    Under the active release; with --run, under that run's.
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
    run: Annotated[int | None, typer.Option(help="What this run recorded as failed.")] = None,
    key: Annotated[str | None, typer.Option(help="One object: s3://bucket/key.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many, by code; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Try again exactly what failed, as a run of its own; the old outcomes are kept as history.

    What is given together must all be true. Asking twice does it once.
    """
    from geotag.context import make_context
    from geotag.failures.failed_objects import asked_for, try_again

    asked = asked_for(where=where, run=run, url=key)
    try_again(make_context(), asked, dry_run=dry_run, yes=yes)
