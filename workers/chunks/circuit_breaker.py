"""Circuit breaker for services that do not answer.

A service that stayed unavailable for as long as a chunk was willing to wait is remembered, and
probed before the next chunk that needs it begins: beginning would cost fetches and attempts. Chunks
that need other services go on.
"""

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait

from workers.chunks.shutdown import Deadline

Probe = Callable[[], bool]
"""A service, as the function that returns whether it answers."""

_POLL_SECONDS = 1.0
# A probe takes no time where the connection is refused, and a time-out where nobody answers. After
# a time-out the service is not probed for nine times as long, so that probes take a tenth of the
# worker's time: other chunks may need other services. A minute at most: all may need this one.
_REST_PER_PROBE = 9.0
_LONGEST_REST_SECONDS = 60.0


class CircuitBreaker:
    """The services that one process knows to be unavailable.

    Args:
        deadline: when the process must stop.
        threads: where probes run.

    Attributes:
        retry_at: for each of them the time (`time.monotonic()`) before which it is not probed.
    """

    def __init__(self, deadline: Deadline, threads: Executor) -> None:
        self.retry_at: dict[Probe, float] = {}
        self._deadline = deadline
        self._threads = threads

    def answers(self, service: Probe) -> bool:
        """Return whether a service answers before the process must stop; it may hang longer."""
        answer = self._threads.submit(service)
        while not answer.done() and not self._deadline.passed():
            wait([answer], timeout=_POLL_SECONDS / 2)
        return answer.done() and answer.result()

    def all_available(self, services: Iterable[Probe], heartbeat: Callable[[], None]) -> bool:
        """Return whether those of the services that were unavailable answer again.

        Each is given a second, unless it is not to be probed yet. For `heartbeat` see `wait_for`.
        """
        return all(self._is_back(one, heartbeat) for one in services if one in self.retry_at)

    def _is_back(self, service: Probe, heartbeat: Callable[[], None]) -> bool:
        if time.monotonic() >= self.retry_at[service]:
            return self.wait_for(service, _POLL_SECONDS, heartbeat)
        self._pause()
        return False

    def wait_for(self, service: Probe, seconds: float, heartbeat: Callable[[], None]) -> bool:
        """Return whether the service answers within so many seconds.

        Args:
            service: is probed at random moments, so that not all workers come back at once.
            seconds: how long to wait.
            heartbeat: is called after each probe in vain.
        """
        until = time.monotonic() + seconds
        rest = 0.0
        while time.monotonic() < until and not self._deadline.passed():
            self._pause()
            probed_at = time.monotonic()
            if self.answers(service):
                self.retry_at.pop(service, None)
                return True
            rest = min(_REST_PER_PROBE * (time.monotonic() - probed_at), _LONGEST_REST_SECONDS)
            heartbeat()
        self.retry_at[service] = time.monotonic() + rest
        return False

    def _pause(self) -> None:
        self._deadline.sleep(_POLL_SECONDS * random.uniform(0.75, 1.5))
