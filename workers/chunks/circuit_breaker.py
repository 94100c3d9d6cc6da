"""Services that are away: waited for, remembered, and asked sparingly.

A service that stayed away for as long as a chunk was willing to wait is remembered, and asked
before the next chunk that needs it begins, which would cost fetches and attempts (a circuit
breaker). Chunks that need other services go on.
"""

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, wait

from workers.chunks.shutdown import Deadline

Probe = Callable[[], bool]
"""A service, as the question whether it answers."""

_POLL_SECONDS = 1.0
# Asking costs no time where the connection is refused, and a timeout where nobody answers: then the
# service is left alone for nine times as long, because other chunks may need other services. That
# makes a tenth of the worker's time. But a minute at most: it may be what all chunks need.
_REST_AFTER_ASKING = 9.0
_LONGEST_REST_SECONDS = 60.0


class CircuitBreaker:
    """The services that one process knows to be away.

    Args:
        deadline: when the process must stop.
        threads: where services are asked.

    Attributes:
        ask_from: for each of them the moment (`time.monotonic()`) from which it may be asked again.
    """

    def __init__(self, deadline: Deadline, threads: Executor) -> None:
        self.ask_from: dict[Probe, float] = {}
        self._deadline = deadline
        self._threads = threads

    def answers(self, service: Probe) -> bool:
        """Whether a service answers before the process must stop: it may hang for longer."""
        answer = self._threads.submit(service)
        while not answer.done() and not self._deadline.passed():
            wait([answer], timeout=_POLL_SECONDS / 2)
        return answer.done() and answer.result()

    def all_back(self, services: Iterable[Probe], meanwhile: Callable[[], None]) -> bool:
        """Whether those of the services that stayed away are back; for `meanwhile` see `wait_for`.

        Each is given a second, and asked no more often than it may be.
        """
        return all(self._is_back(one, meanwhile) for one in services if one in self.ask_from)

    def _is_back(self, service: Probe, meanwhile: Callable[[], None]) -> bool:
        if time.monotonic() >= self.ask_from[service]:
            return self.wait_for(service, _POLL_SECONDS, meanwhile)
        self._pause()
        return False

    def wait_for(self, service: Probe, patience: float, meanwhile: Callable[[], None]) -> bool:
        """Whether the service came back within so many seconds.

        Args:
            service: is asked again and again, at moments of each worker's own, so that they do not
                all come back at once.
            patience: in seconds.
            meanwhile: is called each time that the service was asked in vain.
        """
        until = time.monotonic() + patience
        rest = 0.0
        while time.monotonic() < until and not self._deadline.passed():
            self._pause()
            asked = time.monotonic()
            if self.answers(service):
                self.ask_from.pop(service, None)
                return True
            rest = min(_REST_AFTER_ASKING * (time.monotonic() - asked), _LONGEST_REST_SECONDS)
            meanwhile()
        self.ask_from[service] = time.monotonic() + rest
        return False

    def _pause(self) -> None:
        self._deadline.sleep(_POLL_SECONDS * random.uniform(0.75, 1.5))
