"""`geotag status`: how far the newest runs are."""

import sys
from dataclasses import asdict
from typing import Any

from rich.table import Table

from db.reads import RunProgress, run_progress, totals
from db.schema import STATES
from geotag.context import Context
from geotag.formats import Format
from geotag.output import console, plain, write_csv, write_json
from workers.errors import UsageError


def as_record(progress: RunProgress) -> dict[str, Any]:
    """The stable record of one run (docs/results.md)."""
    record = asdict(progress) | {"done": progress.done, "pending": progress.pending}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in record.items()
    }


def print_status(context: Context, run_id: int | None, form: Format) -> None:
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
        console.print(_table(runs))
        if run_id is None:
            counted = totals(context.engine)
            console.print("all objects: " + ", ".join(f"{n} {s}" for s, n in counted.items()))


def _table(runs: list[RunProgress]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "source", "release", "found", "done before", "pending", *STATES, "state"):
        table.add_column(
            name, justify="left" if name in ("source", "release", "state") else "right"
        )
    for run in runs:
        state = "finished" if run.finished else "planning" if run.planned_at is None else "working"
        table.add_row(
            str(run.id),
            plain(run.source),
            run.release,
            str(run.listed),
            str(run.done_before),
            str(run.pending),
            *(str(getattr(run, name)) for name in STATES),
            state,
        )
    return table
