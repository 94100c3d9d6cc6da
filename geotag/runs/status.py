"""`geotag status`: print the progress of the newest runs."""

import sys
from dataclasses import asdict
from typing import Any

from rich.text import Text

from db.reads import RunProgress, run_progress, totals
from db.schedules import failing
from db.schema import STATES
from geotag.context import Context
from geotag.formats import Format
from geotag.output import console, plain, write_csv, write_json
from geotag.schedules.schedule import RESCHEDULE
from geotag.tables import Column, key_column, number_column, print_table, width_of
from workers.errors import UsageError

HELD = frozenset(
    ("paused", "archive_paused", "archive_removed", "outside_window", "unknown_time_zone")
)
"""States in which a run waits for a person or for its window, not for a service."""

_WAITS = {
    "paused": "paused: geotag resume {run} goes on with it",
    "archive_paused": "its archive is paused: geotag archive resume {archive}",
    "archive_removed": "its archive was removed: geotag cancel {run} ends it",
    "outside_window": "outside its window: it goes on by itself",
    "planning_fails": "its planning fails, and is tried again: {error}",
    "parked": "its planning is given up: {error}. To try again: geotag resume {run}",
    "unknown_time_zone": "{error}: geotag cancel {run}, and schedule the archive anew",
}
_WARNINGS = {
    "vanish_refused": "{warning}. If they are gone: the same geotag run with --allow-vanish"
    " (for all of an archive: geotag run {archive} --allow-vanish)",
}
_ALL_COLUMNS = 120
"""Cells in a line from which the table has all columns."""


def waits_for(run: RunProgress) -> str:
    """Return what a run waits for and what to do about it; empty if it waits for nothing."""
    about = _WAITS.get(run.state, "")
    return about.format(run=run.id, archive=run.archive, error=run.plan_error)


def warns_of(run: RunProgress) -> str:
    """Return what a run's planning left undone, and what to do about it; empty if nothing."""
    code, _colon, warning = (run.plan_warning or "").partition(": ")
    return _WARNINGS.get(code, "{warning}").format(warning=warning, archive=run.archive)


def as_record(progress: RunProgress) -> dict[str, Any]:
    """Return the stable record of a run (docs/results.md)."""
    record = asdict(progress) | {"done": progress.done, "pending": progress.pending}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in record.items()
    }


def print_status(context: Context, run_id: int | None, form: Format, *, wide: bool = False) -> None:
    """Print the newest runs (or one), and all current objects by state.

    Raises:
        UsageError: no such run.
    """
    runs = run_progress(context.engine, run_id)
    if run_id is not None and not runs:
        raise UsageError(f"there is no run {run_id}")
    if form is Format.JSON:
        write_json(map(as_record, runs), sys.stdout)
    elif form is Format.CSV:
        names = list(as_record(runs[0])) if runs else ["id"]
        write_csv(map(as_record, runs), names, sys.stdout)
    elif form is Format.GEOJSON:
        raise UsageError("a run has no position: --format table, json or csv")
    else:
        _print_runs(runs, wide)
        for run in runs:
            for why in filter(None, (waits_for(run), warns_of(run))):
                console.print(Text.assemble(f"run {run.id}: ", plain(why)), soft_wrap=True)
        if run_id is None:
            counted = totals(context.engine)
            for archive, error in failing(context.engine):
                said = f"schedule of {archive}: {error}. {RESCHEDULE.format(archive=archive)}"
                console.print(plain(said), soft_wrap=True)
            console.print("all objects: " + ", ".join(f"{n} {s}" for s, n in counted.items()))


def _print_runs(runs: list[RunProgress], wide: bool) -> None:
    width = width_of(console, wide)
    whole = width is None or width >= _ALL_COLUMNS
    counts = ["listed", "done_before", "pending", *STATES] if whole else ["pending", *STATES]
    if not whole:  # a column of zeros makes way for the source
        counts = [n for n in counts if n == "pending" or any(getattr(run, n) for run in runs)]
    titles = ("found" if name == "listed" else name.replace("_", " ") for name in counts)
    columns = [
        number_column("run"),
        key_column("source"),
        *([Column("release")] if whole else []),
        *map(number_column, titles),
        Column("state"),
    ]
    rows = [
        (
            str(run.id),
            run.source,
            *([run.release] if whole else []),
            *(str(getattr(run, name)) for name in counts),
            run.state.replace("_", " "),
        )
        for run in runs
    ]
    print_table(columns, rows, wide=wide, labels=2)
