"""`geotag pause`, `resume` and `cancel`: change a run, and print what that means."""

from db import control, dispatch
from db.reads import run_progress
from geotag.context import Context
from geotag.output import errors
from workers.errors import UsageError

_CHANGES = {
    "pause": (control.pause_run, "paused: geotag resume {} goes on"),
    "resume": (control.resume_run, "goes on"),
    "cancel": (control.cancel_run, "cancelled: objects without an outcome stay pending"),
}


def change(context: Context, run_id: int, what: str) -> None:
    """Pause, resume or cancel a run.

    Raises:
        UsageError: there is no such run, or it is cancelled or finished.
    """
    found = run_progress(context.engine, run_id)
    if found and found[0].finished:
        raise UsageError(f"run {run_id} is finished")
    do, says = _CHANGES[what]
    try:
        do(context.engine, run_id, dispatch.clock(context.engine))
    except control.RunUnknown:
        raise UsageError(f"there is no run {run_id} under way: geotag status") from None
    (progress,) = run_progress(context.engine, run_id)
    done = f"{progress.done} of {progress.planned} objects done"
    errors.print(f"run {run_id}: {says.format(run_id)} ({done})", highlight=False)
