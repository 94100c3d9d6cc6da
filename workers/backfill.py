"""From a source to messages: each page of objects is recorded, cut into chunks and published.

A page is recorded in one transaction before its messages are sent, so that whatever is lost between
the two is found again: planning the same source again publishes every chunk that no worker holds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain

from celery import Celery
from sqlalchemy import Engine

from db import planning
from workers.app import publish
from workers.archive import ArchiveObject
from workers.sources import Found


@dataclass
class Planned:
    """How far planning is: what the listing has come to, and the objects that were published."""

    run_id: int
    totals: planning.Totals = planning.NOTHING
    published: int = 0

    @property
    def listed(self) -> int:
        """Photographs listed so far."""
        return self.totals.listed


@dataclass(frozen=True)
class Planner:
    """Plans runs into the ledger and onto a queue.

    Args:
        engine: of the ledger.
        app: of the broker.
        endpoint: of the S3 service that the objects come from; empty is AWS.
        chunk_size: objects in one message, at most.
    """

    engine: Engine
    app: Celery
    endpoint: str
    chunk_size: int
    _archives: dict[str, int] = field(default_factory=dict)

    def plan(
        self,
        source: str,
        queue: str,
        pages: Iterable[Found],
        *,
        report: Callable[[Planned], None] = lambda planned: None,
    ) -> Planned:
        """Plan and publish all that has no outcome yet; joins the source's unfinished run.

        Raises:
            NoActiveRelease: no release is registered and active.
            BrokerUnavailable: a chunk could not be published; planning again publishes it.
            GeotagError: the source's own errors.
        """
        # The first page comes first: a source that cannot be read leaves no run behind.
        pages = iter(pages)
        first = next(pages, Found((), 0))
        planned = Planned(planning.open_run(self.engine, source, queue))
        for chunk in planning.redeliver(self.engine, planned.run_id):
            self._publish(queue, chunk)
            planned.published += len(chunk.object_version_ids)
        report(planned)
        for page in chain([first], pages):
            self._plan_page(planned, queue, page)
            report(planned)
        planning.close_plan(self.engine, planned.run_id)
        return planned

    def _plan_page(self, planned: Planned, queue: str, page: Found) -> None:
        done = planning.plan_page(
            self.engine,
            planned.run_id,
            [self._listed(obj) for obj in page.objects],
            skipped=page.skipped,
            chunk_size=self.chunk_size,
            before=planned.totals,
        )
        planned.totals = done.totals
        for chunk in done.chunks:
            self._publish(queue, chunk)
            planned.published += len(chunk.object_version_ids)
        planning.mark_published(self.engine, [chunk.chunk_id for chunk in done.chunks])

    def _publish(self, queue: str, chunk: planning.PlannedChunk) -> None:
        publish(self.app, queue, chunk.chunk_id, chunk.delivery, chunk.object_version_ids)

    def _listed(self, obj: ArchiveObject) -> planning.ListedObject:
        archive_id = self._archive_id(obj.bucket)
        return planning.ListedObject(archive_id, obj.key, obj.etag, obj.size, obj.last_modified)

    def _archive_id(self, bucket: str) -> int:
        known = self._archives.get(bucket)
        if known is None:
            known = planning.register_archive(self.engine, self.endpoint, bucket)
            self._archives[bucket] = known
        return known
