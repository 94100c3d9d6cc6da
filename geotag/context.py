"""Settings and clients that the commands share. Clients are created on first use."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from geotag.settings import Settings, gather

if TYPE_CHECKING:
    from celery import Celery
    from sqlalchemy import Engine

    from workers.broker.publisher import Publisher
    from workers.planning.planner import Planner
    from workers.s3.service import S3Service, S3Services


@dataclass
class Context:
    """The settings and clients of one command. Clients are imported and created on first use."""

    settings: Settings

    @cached_property
    def engine(self) -> "Engine":
        """Return the engine of the ledger."""
        from db.engine import make_engine

        return make_engine(self.settings.database)

    @cached_property
    def app(self) -> "Celery":
        """Return the Celery application of the broker."""
        from workers.broker.app import make_app

        return make_app(self.settings.worker)

    @cached_property
    def s3(self) -> "S3Service":
        """Return the S3 service of the settings, which receives uploads."""
        from workers.s3.service import S3Service

        return S3Service(self.settings.worker)

    @cached_property
    def s3_services(self) -> "S3Services":
        """Return the S3 services of the registered archives."""
        from workers.s3.service import S3Services

        return S3Services(self.settings.worker)

    def publisher(self) -> "Publisher":
        """Return a publisher, which sends planned chunks to the broker."""
        from workers.broker.publisher import Publisher

        worker = self.settings.worker
        return Publisher(self.engine, self.app, worker.most_queued, worker.lost_after)

    def planner(self) -> "Planner":
        """Return a planner, which writes the objects of a run into the ledger."""
        from workers.planning.planner import Planner

        worker = self.settings.worker
        return Planner(self.engine, self.s3_services, worker.chunk_size, worker.most_vanished)


def make_context() -> Context:
    """Return a context with the settings of this process."""
    return Context(gather())
