"""Types that the services, the supervisor and the stack share: Program and Service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Report = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """A program for the supervisor."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 20
    start_seconds: int = 60
    copies: int = 1
    priority: int = 100  # supervisor stops low ones last


class Service(Protocol):
    """A server of the stack, with what `up` needs of it."""

    @property
    def name(self) -> str:
        """Its name in the supervisor, the log and error messages."""

    @property
    def ports(self) -> Sequence[int]:
        """The loopback ports that must be free when it starts."""

    def install(self, report: Report) -> None:
        """Install what the server needs from the system. Quick if it is installed."""

    def prepare(self, report: Report) -> Program:
        """Write its files and return its program, which depends on the settings alone."""

    def check(self) -> str:
        """Ask the server in its own protocol. Return what it is, or raise the client's error."""

    def variables(self) -> dict[str, str]:
        """Return the `GEOTAG_` variables with its address, for the workers."""
