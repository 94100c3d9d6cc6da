"""Live progress of a run, read from the ledger: any number may watch, and nobody has to."""

import shlex
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from sqlalchemy.exc import SQLAlchemyError

from db.engine import is_away
from db.reads import RunProgress, failure_codes, run_progress
from db.schema import STATES
from geotag import failures
from geotag.context import Context
from geotag.output import console, errors
from workers.errors import TransientError, UsageError

_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0
_MEANWHILE_SECONDS = 2.0
_RATE_WINDOW_SECONDS = 20.0


class ServiceStayedAway(TransientError):
    """Nothing moved for as long as the settings grant."""

    code = "service_stayed_away"


class Rate:
    """Objects a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int) -> float | None:
        """The rate with this count; None until something has moved."""
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if done > before else None


def watch(
    context: Context, run_id: int, *, meanwhile: Callable[[], object] = lambda: None
) -> RunProgress:
    """Show a run's progress until each of its objects has an outcome.

    Args:
        context: settings and clients.
        run_id: the run.
        meanwhile: called every other second; that a service is away is no reason to stop.

    Raises:
        ServiceStayedAway: nothing moved for GEOTAG_WAIT_SECONDS.
        UsageError: there is no such run.
    """
    rate = Rate()
    moved_at = said_at = asked_at = time.monotonic()
    done = -1
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
    with bar:
        task = bar.add_task("geotagging", total=None, detail="")
        while True:
            progress = _progress(context, run_id)
            if progress is not None:
                bar.update(
                    task,
                    total=progress.planned or 1,
                    completed=progress.done,
                    detail=_detail(progress, rate.update(progress.done)),
                )
                if progress.finished:
                    return progress
                said_at = _say_sometimes(progress, said_at)
                if progress.done != done:
                    moved_at, done = time.monotonic(), progress.done
            if time.monotonic() - asked_at > _MEANWHILE_SECONDS:
                asked_at = time.monotonic()
                _ask(meanwhile)
            if time.monotonic() - moved_at > context.settings.command.wait_seconds:
                raise ServiceStayedAway(
                    f"nothing moved for {context.settings.command.wait_seconds:.0f} s; the objects"
                    f" of run {run_id} are still queued and go on when the service is back"
                )
            time.sleep(_POLL_SECONDS)


def _ask(meanwhile: Callable[[], object]) -> None:
    try:
        meanwhile()
    except TransientError:
        return
    except SQLAlchemyError as error:
        if not is_away(error):
            raise


def _progress(context: Context, run_id: int) -> RunProgress | None:
    """The run's progress, or None while the database is away: it may be back in a moment."""
    try:
        found = run_progress(context.engine, run_id)
    except SQLAlchemyError as error:
        if is_away(error):
            return None
        raise
    if not found:
        raise UsageError(f"there is no run {run_id}")
    return found[0]


def _say_sometimes(progress: RunProgress, said_at: float) -> float:
    """A line now and then where there is no terminal to draw a bar on; when the last was said."""
    if errors.is_terminal or time.monotonic() - said_at < _LINE_SECONDS:
        return said_at
    failed = progress.failed + progress.quarantined
    errors.print(f"run {progress.id}: {progress.done} of {progress.planned} done, {failed} failed")
    return time.monotonic()


def _detail(progress: RunProgress, rate: float | None) -> str:
    parts = [f"{progress.failed + progress.quarantined} failed"]
    if rate is not None:
        left = timedelta(seconds=round(progress.pending / rate))
        parts += [f"{rate:.1f}/s", f"{left} left"]
    return ", ".join(parts)


def report(context: Context, progress: RunProgress, seconds: float | None = None) -> int:
    """Print a finished run's totals and return the exit code that they amount to."""
    counted = ", ".join(
        f"{getattr(progress, state)} {state}"
        for state in STATES
        if getattr(progress, state) or state == "geotagged"
    )
    before = f"{progress.done_before} done before"
    if progress.failed_before:
        before += f" ({progress.failed_before} of them failed)"
    took = (
        f" in {seconds:.1f} s, {progress.done / seconds:.1f}/s" if seconds and progress.done else ""
    )
    console.print(
        f"run {progress.id} ({progress.release}):"
        f" {progress.listed} found, {before}, {counted}{took}"
    )
    if progress.skipped:
        console.print(f"{progress.skipped} left out: no photographs (sidecars, folders)")
    failed = progress.failed + progress.quarantined
    for code, count in failure_codes(context.engine, progress.id) if failed else ():
        console.print(f"  [red]{count:>6} {code}[/red]")
    for state in ("failed", "quarantined"):
        if getattr(progress, state):
            console.print(f"to list them: geotag results --run {progress.id} --state {state}")
    if progress.failed_before:
        # Not objects of this run, so that --run does not find them.
        source = f" {shlex.quote(progress.source)}" if progress.source.startswith("s3://") else ""
        console.print(
            f"to list what failed before: geotag results{source} --state failed"
            " (and --state quarantined)",
            markup=False,
            soft_wrap=True,
        )
    return failures.SOME_FAILED if failed or progress.failed_before else failures.OK
