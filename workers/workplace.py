"""What one worker process works with: its clients, its threads, its name."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version

from sqlalchemy import Engine

from db.engine import make_engine
from db.settings import DatabaseSettings
from workers.archive import Archives
from workers.away import Away
from workers.locator import Locator
from workers.settings import WorkerSettings
from workers.shutdown import Deadline


@dataclass
class Workplace:
    """Clients of one worker process; each is made on first use, which is after the fork.

    `deadline` is when the process must stop.
    """

    settings: WorkerSettings
    database: DatabaseSettings
    deadline: Deadline = field(default_factory=Deadline)
    _locators: dict[tuple[str, str], Locator] = field(default_factory=dict)

    @cached_property
    def away(self) -> Away:
        """The services that are known to be away."""
        return Away(self.deadline, self.threads)

    @cached_property
    def engine(self) -> Engine:
        """Connections to the ledger."""
        return make_engine(self.database)

    @cached_property
    def archives(self) -> Archives:
        """The S3 services, each made when a chunk of its archive comes."""
        return Archives(self.settings)

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """As many threads as objects may be in flight."""
        return ThreadPoolExecutor(self.settings.in_flight, thread_name_prefix="object")

    @cached_property
    def name(self) -> str:
        """This process, as attempts name it."""
        return f"{socket.gethostname()}:{os.getpid()}"

    @cached_property
    def code_version(self) -> str:
        """What writes the rows, for their provenance."""
        return version("geotag-archive")

    def locator(self, release: str, digest: str) -> Locator:
        """Triton, for a release."""
        if (release, digest) not in self._locators:
            self._locators[release, digest] = Locator(self.settings, release, digest)
        return self._locators[release, digest]
