"""What the commands share: settings and clients, made when they are first asked for."""

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
    """The clients of one command; nothing is imported or connected before it is needed."""

    settings: Settings

    @cached_property
    def engine(self) -> "Engine":
        """The ledger."""
        from db.engine import make_engine

        return make_engine(self.settings.database)

    @cached_property
    def app(self) -> "Celery":
        """The broker."""
        from workers.broker.app import make_app

        return make_app(self.settings.worker)

    @cached_property
    def s3(self) -> "S3Service":
        """The S3 service that the settings name: what is uploaded goes there."""
        from workers.s3.service import S3Service

        return S3Service(self.settings.worker)

    @cached_property
    def s3_services(self) -> "S3Services":
        """The S3 services of the registered archives."""
        from workers.s3.service import S3Services

        return S3Services(self.settings.worker)

    def publisher(self) -> "Publisher":
        """Moves what is planned to the broker."""
        from workers.broker.publisher import Publisher

        worker = self.settings.worker
        return Publisher(self.engine, self.app, worker.most_queued, worker.lost_after)

    def planner(self) -> "Planner":
        """Plans runs into the ledger."""
        from workers.planning.planner import Planner

        worker = self.settings.worker
        return Planner(self.engine, self.s3_services, worker.chunk_size, worker.most_vanished)


def make_context() -> Context:
    """A context with the settings of this process."""
    return Context(gather())
