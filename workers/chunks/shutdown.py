"""SIGTERM: what is in flight is finished, or handed back when the grace period is over.

Celery's worker stops taking messages and waits for its pool without end, and a pool process does
not hear of it. Whoever sent the signal waits a while and kills: every object in hand would then
count as a worker's death. So the worker passes SIGTERM on to its pool processes, and each of them
ends its chunk in time. A manager that signals all processes at once (systemd) comes to the same.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from billiard.process import active_children
from celery.signals import worker_shutting_down

_STEP_SECONDS = 0.5


class Deadline:
    """When this process must have let go of its chunk; none until it is told to stop."""

    def __init__(self) -> None:
        self._at: float | None = None

    @contextmanager
    def heeding_sigterm(self, grace: float) -> Iterator[None]:
        """At SIGTERM, set the deadline `grace` seconds on, instead of dying with a chunk in hand.

        Only while there is one: an idle pool process ends at SIGTERM, as Celery has it.
        """

        def told(_number: int, _frame: FrameType | None) -> None:
            if self._at is None:
                self._at = time.monotonic() + grace

        before = signal.signal(signal.SIGTERM, told)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            self._at = None

    def passed(self) -> bool:
        """Whether the time is over."""
        return self._at is not None and time.monotonic() >= self._at

    def sleep(self, seconds: float) -> None:
        """Sleep, but not for long beyond the deadline, even one that is set meanwhile."""
        until = time.monotonic() + seconds
        while not self.passed() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_SECONDS))


def pass_sigterm_on() -> None:
    """Have this worker tell its pool processes when it is told to stop."""
    worker_shutting_down.connect(_tell_pool, weak=False)


def _tell_pool(**_signal: Any) -> None:
    for pid in [child.pid for child in active_children() if child.pid is not None]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
