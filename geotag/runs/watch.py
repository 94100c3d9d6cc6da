"""Watch a run's progress in the ledger. Any number of processes may watch a run."""

import math
import shlex
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from db.engine import is_transient
from db.reads import RunProgress, failure_codes, recorded_codes, run_progress
from db.schema import STATES
from deploy.local.doctor import checks
from deploy.local.stack import SERVERS
from geotag import exits
from geotag.context import Context
from geotag.formats import Format
from geotag.output import console
from geotag.runs.display import View, display
from geotag.runs.status import HELD, waits_for
from workers.errors import TransientError, UsageError

# A run of one photograph ends at once; the progress of a run of millions takes long to count. The
# interval between two queries grows with the time waited, up to two seconds.
_SHORTEST_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 2.0
_LOOK_SECONDS = 5.0
_MEANWHILE_SECONDS = 2.0
_RATE_WINDOW_SECONDS = 20.0
# Outcomes are written when a chunk ends, and a chunk of large objects on a slow link takes minutes.
# While its worker sends heartbeats and every service answers, the watch is this much more patient.
_HEARTBEAT_SECONDS = 30.0
_PATIENCE_WITH_A_WORKER = 10


class ServiceStayedAway(TransientError):
    """Nothing moved for GEOTAG_WAIT_SECONDS."""

    code = "service_stayed_away"


class Rate:
    """Objects a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int) -> float | None:
        """Add a count and return the rate; None until the count has grown."""
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _RATE_WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if done > before else None


def follow(context: Context, run_id: int | None, form: Format) -> int:
    """Watch a run, or the newest one, and report how it ended; return the exit code.

    Raises:
        UsageError: there is no such run, it is parked, or it cannot be watched in that form.
        ServiceStayedAway: see `watch`.
    """
    if form not in (Format.TABLE, Format.JSON):
        raise UsageError("a run is watched as a table or as json")
    newest = run_progress(context.engine, run_id, most=1)
    if not newest:
        raise UsageError(f"there is no run {run_id}" if run_id else "there is no run yet")
    ended = watch(context, newest[0].id, form=form)
    return exit_code(ended) if form is Format.JSON else report(context, ended)


def watch(
    context: Context,
    run_id: int,
    *,
    meanwhile: Callable[[], object] = lambda: None,
    form: Format = Format.TABLE,
) -> RunProgress:
    """Show a run's progress until each of its objects has an outcome.

    Args:
        context: settings and clients.
        run_id: the run.
        meanwhile: called every two seconds. An unavailable service does not end the watch.
        form: `json` is an object a line, on standard output.

    Raises:
        ServiceStayedAway: nothing moved for GEOTAG_WAIT_SECONDS, and the run was not told to wait;
            for ten times as long, while a worker sends heartbeats and every service answers.
        UsageError: there is no such run, or it is parked and has no chunk left to process.
    """
    rate = Rate()
    started = moved_at = asked_at = looked_at = time.monotonic()
    heartbeats = _Heartbeats()
    seen = (-1, -1)
    codes: tuple[tuple[str, int], ...] = ()
    unavailable: tuple[str, ...] = ()
    with display(form) as shown:
        while True:
            now, progress = time.monotonic(), _progress(context, run_id)
            if progress is not None:
                heartbeats.update(progress)
                figures = progress.done, progress.listed
                if figures != seen:
                    moved_at, seen, unavailable = now, figures, ()
                elif progress.state in HELD:
                    moved_at = now
                if now - looked_at >= _LOOK_SECONDS or progress.finished:
                    looked_at = now
                    codes = _codes(context, progress)
                    unavailable = _unavailable(context) if now - moved_at >= _LOOK_SECONDS else ()
                shown.show(View(progress, rate.update(progress.done), codes, unavailable))
                if progress.finished:
                    return progress
                if progress.state == "parked" and not _chunks(progress):
                    raise UsageError(f"run {run_id}: {waits_for(progress)}")
            if now - asked_at > _MEANWHILE_SECONDS:
                asked_at = now
                _ask(meanwhile)
            patience = context.settings.command.wait_seconds
            if heartbeats.are_fresh() and not unavailable:
                patience *= _PATIENCE_WITH_A_WORKER
            if now - moved_at > patience:
                raise ServiceStayedAway(
                    f"nothing moved for {now - moved_at:.0f} s; the objects"
                    f" of run {run_id} are still queued, and are processed when the services and"
                    " workers are available again"
                )
            time.sleep(_pause(now - started))


class _Heartbeats:
    """When the newest heartbeat of a run's workers was seen, by this process's clock."""

    def __init__(self) -> None:
        self._newest: datetime | None = None
        self._seen_at = -math.inf

    def update(self, progress: RunProgress) -> None:
        """Note a heartbeat that is newer than those seen; the first one seen may be old."""
        if progress.heartbeat_at != self._newest:
            if self._newest is not None:
                self._seen_at = time.monotonic()
            self._newest = progress.heartbeat_at

    def are_fresh(self) -> bool:
        """Return whether a heartbeat came lately."""
        return time.monotonic() - self._seen_at <= _HEARTBEAT_SECONDS


def _chunks(progress: RunProgress) -> int:
    """Return the number of chunks that are not finished."""
    return progress.chunks_waiting + progress.chunks_queued


def _pause(waited: float) -> float:
    """Return the seconds until the next query, by the seconds waited so far."""
    return min(_LONGEST_POLL_SECONDS, max(_SHORTEST_POLL_SECONDS, waited / 10))


def _codes(context: Context, progress: RunProgress) -> tuple[tuple[str, int], ...]:
    """Return the run's failures by code; none while the database is unavailable."""
    if not progress.failed + progress.quarantined:
        return ()
    try:
        return tuple(recorded_codes(context.engine, progress.id))
    except SQLAlchemyError as error:
        if is_transient(error):
            return ()
        raise


def _unavailable(context: Context) -> tuple[str, ...]:
    """Return the services that do not answer."""
    found = checks(context.settings.stack)
    return tuple(check.name for check in found if check.name in SERVERS and not check.ok)


def _ask(meanwhile: Callable[[], object]) -> None:
    try:
        meanwhile()
    except TransientError:
        return
    except SQLAlchemyError as error:
        if not is_transient(error):
            raise


def _progress(context: Context, run_id: int) -> RunProgress | None:
    """Return the run's progress; None while the database is unavailable."""
    try:
        found = run_progress(context.engine, run_id)
    except SQLAlchemyError as error:
        if is_transient(error):
            return None
        raise
    if not found:
        raise UsageError(f"there is no run {run_id}")
    return found[0]


def report(context: Context, progress: RunProgress, seconds: float | None = None) -> int:
    """Print a finished run's totals and return its exit code."""
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
    if failed:
        console.print(f"what to do about them: geotag failures --run {progress.id}")
    if progress.failed_before:
        # Not objects of this run, so that --run does not find them.
        source = f" {shlex.quote(progress.source)}" if progress.source.startswith("s3://") else ""
        console.print(
            f"to list what failed before: geotag results{source} --state failed"
            " (and --state quarantined)",
            markup=False,
            soft_wrap=True,
        )
    if progress.state == "cancelled":
        console.print(f"cancelled: {progress.pending} objects stay pending, for another run")
    return exit_code(progress)


def exit_code(progress: RunProgress) -> int:
    """Return the exit code of a finished run, by the outcomes of its objects."""
    wrong = progress.failed + progress.quarantined + progress.failed_before + progress.pending
    return exits.SOME_FAILED if wrong else exits.OK
