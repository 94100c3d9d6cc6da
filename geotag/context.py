"""What the commands share: settings and clients, made when they are first asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from geotag.settings import Settings, gather

if TYPE_CHECKING:
    from celery import Celery
    from sqlalchemy import Engine

    from workers.archive import Archive, Archives
    from workers.backfill import Planner
    from workers.publisher import Publisher


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
        from workers.app import make_app

        return make_app(self.settings.worker)

    @cached_property
    def archive(self) -> "Archive":
        """The S3 service that the settings name: what is uploaded goes there."""
        from workers.archive import Archive

        return Archive(self.settings.worker)

    @cached_property
    def archives(self) -> "Archives":
        """The S3 services of the registered archives."""
        from workers.archive import Archives

        return Archives(self.settings.worker)

    def publisher(self) -> "Publisher":
        """Moves what is planned to the broker."""
        from workers.publisher import Publisher

        worker = self.settings.worker
        return Publisher(self.engine, self.app, worker.most_queued, worker.lost_after)

    def planner(self) -> "Planner":
        """Plans runs into the ledger."""
        from workers.backfill import Planner

        return Planner(self.engine, self.archives, self.settings.worker.chunk_size)


def context() -> Context:
    """A context with the settings of this process."""
    return Context(gather())
