"""What the local stack runs: the words between the services, the supervisor and the stack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Report = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """One entry of the supervisor."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    start_seconds: int = 60
    copies: int = 1
    priority: int = 100  # low ones stop last


class Service(Protocol):
    """A server of the stack, in the questions that `up` asks."""

    @property
    def name(self) -> str:
        """What the supervisor, the log and error messages call it."""

    @property
    def ports(self) -> Sequence[int]:
        """The loopback ports that it must find free when it starts."""

    def install(self, report: Report) -> None:
        """Put in place what the server needs from the system; quick when it is there."""

    def prepare(self, report: Report) -> Program:
        """Make its files and say how to run it; the same answer for the same settings."""

    def check(self) -> str:
        """Speak the server's own protocol; return what answered, or raise what went wrong."""

    def variables(self) -> dict[str, str]:
        """The `GEOTAG_` variables under which the workers find it."""
