"""Render a run's progress: a bar on a terminal, lines in a log, or JSON."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from db.reads import RunProgress
from geotag.formats import Format
from geotag.output import errors, plain
from geotag.runs.status import as_record, waits_for

_LINE_SECONDS = 10.0
_JSON_SECONDS = 2.0


@dataclass(frozen=True)
class View:
    """What is shown of a run at one moment.

    Args:
        progress: the run's counts.
        rate: objects a second; None until a count has grown.
        codes: the run's failures by code.
        unavailable: services that do not answer; only checked while no count grows.
    """

    progress: RunProgress
    rate: float | None = None
    codes: tuple[tuple[str, int], ...] = ()
    unavailable: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> int | None:
        """Seconds left at the current rate; None until the run is planned."""
        if not self.rate or self.progress.planned_at is None:
            return None
        return round(self.progress.pending / self.rate)

    def pace(self) -> str:
        """Return rate, time left and chunks: `12.3/s, 0:01:20 left, 8 chunks queued`."""
        parts = [f"{self.rate:.1f}/s"] if self.rate else []
        if self.seconds_left is not None:
            parts.append(f"{timedelta(seconds=self.seconds_left)} left")
        if self.progress.planned_at is None:
            parts.append(f"{self.progress.listed} found so far")
        if self.progress.chunks_queued:
            parts.append(f"{self.progress.chunks_queued} chunks queued")
        if self.progress.chunks_waiting:
            parts.append(f"{self.progress.chunks_waiting} waiting")
        return ", ".join(parts)

    def waits(self) -> str:
        """Return what the run waits for and what to do about it; empty if it waits for nothing."""
        if self.unavailable:
            return f"{' and '.join(self.unavailable)} unavailable, work waits: geotag doctor"
        return waits_for(self.progress)


class Terminal:
    """A progress bar, and lines below it that wrap in a narrow terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
        )
        self._bar = Progress(*columns, console=errors, expand=True)
        self._task = self._bar.add_task("geotagging", total=None)
        self._live = Live(self._bar, console=errors, transient=True, refresh_per_second=4)

    def __enter__(self) -> "Terminal":
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        """Redraw it."""
        progress = view.progress
        name = f"run {progress.id}"
        total = progress.planned or 1
        self._bar.update(self._task, description=name, total=total, completed=progress.done)
        failed = ", ".join(f"{count} {code}" for code, count in view.codes)
        lines = (
            Text(view.pace(), "dim"),
            Text(failed, "red"),
            Text.assemble(plain(view.waits()), style="yellow"),
        )
        self._live.update(Group(self._bar, *(line for line in lines if line)))


class Lines:
    """A line every few seconds, for logs and scripts."""

    def __init__(self, write: Callable[[View], None], seconds: float) -> None:
        self._write = write
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def show(self, view: View) -> None:
        """Print it if the interval has passed or the run has ended."""
        if time.monotonic() >= self._next or view.progress.finished:
            self._next = time.monotonic() + self._seconds
            self._write(view)


def _print_line(view: View) -> None:
    progress = view.progress
    if progress.finished:  # the totals follow
        return
    failed = progress.failed + progress.quarantined
    parts = (
        f"run {progress.id}: {progress.done} of {progress.planned} done, {failed} failed",
        view.pace(),
        view.waits(),
    )
    errors.print(", ".join(filter(None, parts)), markup=False, highlight=False, soft_wrap=True)


def _print_json(view: View) -> None:
    record: dict[str, Any] = as_record(view.progress) | {
        "rate": view.rate,
        "seconds_left": view.seconds_left,
        "codes": dict(view.codes),
        "away": list(view.unavailable),
    }
    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def display(form: Format) -> Terminal | Lines:
    """Return the display for a format, and for whether standard error is a terminal."""
    if form is Format.JSON:
        return Lines(_print_json, _JSON_SECONDS)
    return Terminal() if errors.is_terminal else Lines(_print_line, _LINE_SECONDS)
