"""SIGTERM: what is in flight is finished, or handed back when the grace period is over.

Celery's worker stops taking messages and waits for its pool without end, and a pool process does
not hear of it. Whoever sent the signal waits a while and kills: every object in hand would then
count as a worker's death. So the worker passes SIGTERM on to its pool processes, and each of them
ends its chunk in time. A manager that signals all processes at once (systemd) comes to the same.
"""

import os
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from billiard.process import active_children
from celery.signals import worker_process_init, worker_shutting_down

_STEP_SECONDS = 0.5


class Deadline:
    """When this process must have let go of its chunk; it has none until it is told to stop."""

    def __init__(self) -> None:
        self._at: float | None = None

    def set(self, seconds: float) -> None:
        """Stop within so many seconds; the first word counts."""
        if self._at is None:
            self._at = time.monotonic() + seconds

    def passed(self) -> bool:
        """Whether the time is over."""
        return self._at is not None and time.monotonic() >= self._at

    def renew(self) -> None:
        """Forget a deadline that has passed: a process that gets new work was not meant to stop."""
        if self.passed():
            self._at = None

    def sleep(self, seconds: float) -> None:
        """Sleep, but not for long beyond the deadline, even one that is set meanwhile."""
        until = time.monotonic() + seconds
        while not self.passed() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _STEP_SECONDS))


def stop_in_time(deadline: Deadline, grace: float) -> None:
    """Have this worker's pool processes set their deadline, `grace` seconds on, at SIGTERM."""

    def listen(**_signal: Any) -> None:
        def told(_number: int, _frame: FrameType | None) -> None:
            deadline.set(grace)

        signal.signal(signal.SIGTERM, told)

    worker_process_init.connect(listen, weak=False)
    worker_shutting_down.connect(_tell_pool, weak=False)


def _tell_pool(**_signal: Any) -> None:
    for pid in [child.pid for child in active_children() if child.pid is not None]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
