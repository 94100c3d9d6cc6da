"""Worker context: the clients, threads and name of one worker process."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version

from sqlalchemy import Engine

from db.engine import make_engine
from db.settings import DatabaseSettings
from workers.chunks.circuit_breaker import CircuitBreaker
from workers.chunks.shutdown import Deadline
from workers.chunks.triton_client import TritonClient
from workers.s3.service import S3Services
from workers.settings import WorkerSettings


@dataclass
class WorkerContext:
    """Clients of one worker process; each is made on first use, which is after the fork.

    `deadline` is when the process must stop.
    """

    settings: WorkerSettings
    database: DatabaseSettings
    deadline: Deadline = field(default_factory=Deadline)
    _triton_clients: dict[tuple[str, str], TritonClient] = field(default_factory=dict)

    @cached_property
    def circuit_breaker(self) -> CircuitBreaker:
        """The services that are known to be unavailable."""
        return CircuitBreaker(self.deadline, self.threads)

    @cached_property
    def engine(self) -> Engine:
        """Connections to the ledger."""
        return make_engine(self.database)

    @cached_property
    def s3_services(self) -> S3Services:
        """The S3 services, each made when the first chunk of its archive comes."""
        return S3Services(self.settings)

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """Return the thread pool, with one thread per object in flight."""
        return ThreadPoolExecutor(self.settings.in_flight, thread_name_prefix="object")

    @cached_property
    def name(self) -> str:
        """Host and process id, for the rows of attempts."""
        return f"{socket.gethostname()}:{os.getpid()}"

    @cached_property
    def code_version(self) -> str:
        """Version of this package, for the provenance of rows."""
        return version("geotag-archive")

    def triton_client(self, release: str, digest: str) -> TritonClient:
        """Return the Triton client for a release."""
        if (release, digest) not in self._triton_clients:
            self._triton_clients[release, digest] = TritonClient(self.settings, release, digest)
        return self._triton_clients[release, digest]
