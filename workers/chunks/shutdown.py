"""Shutdown at SIGTERM: a chunk is finished, or handed back at the end of the grace period.

At SIGTERM Celery's parent process takes no more messages and waits for its pool without a limit.
The pool is not told. A supervisor then kills the worker, and every object in flight would count as
a crash. So the parent passes SIGTERM on to its pool processes, and each ends its chunk in time. A
supervisor that signals all processes at once (systemd) has the same effect.
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
    """When this process must have released its chunk; none until it is told to stop."""

    def __init__(self) -> None:
        self._at: float | None = None

    @contextmanager
    def heeding_sigterm(self, grace: float) -> Iterator[None]:
        """At SIGTERM, set the deadline to `grace` seconds from then, instead of ending at once.

        This holds while a chunk is in work: an idle pool process ends at SIGTERM, by Celery's own
        handler.
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
        """Return whether the deadline has passed."""
        return self._at is not None and time.monotonic() >= self._at

    def sleep(self, seconds: float) -> None:
        """Sleep, but end half a second after a deadline at most, even one set during the sleep."""
        until = time.monotonic() + seconds
        while not self.passed() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_SECONDS))


def pass_sigterm_on() -> None:
    """Pass SIGTERM on from this worker's parent process to its pool processes."""
    worker_shutting_down.connect(_tell_pool, weak=False)


def _tell_pool(**_signal: Any) -> None:
    for pid in [child.pid for child in active_children() if child.pid is not None]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
