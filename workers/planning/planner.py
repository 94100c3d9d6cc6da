"""Plan runs: read a source page by page, and write its objects and chunks into the ledger.

The planner sends nothing. Its chunks wait in the ledger for the publisher
(workers/broker/publisher.py), which is called between pages so that the workers begin before a long
listing ends.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from db import archives, planning, runs
from db.runs import Run, RunStopped
from workers.planning.inventory import INVENTORY, inventory
from workers.planning.sources import CursorRefused, Source, listing
from workers.s3.service import S3Services, parse_s3_url
from workers.telemetry import metrics
from workers.telemetry.logs import bound


@dataclass(frozen=True)
class Planned:
    """Progress of a run's planning: the counts of its listing, and the number of vanished objects.

    `planned` counts the objects that this planner has put into chunks.
    """

    run_id: int
    totals: runs.Totals
    planned: int = 0
    vanished: int = 0

    @property
    def listed(self) -> int:
        """Photographs listed so far."""
        return self.totals.listed


@dataclass(frozen=True)
class Planner:
    """Plans runs into the ledger.

    Args:
        engine: of the ledger.
        archives: the S3 services that listings come from.
        chunk_size: objects in one message, at most.
        most_vanished: the share of an archive that one listing may mark as vanished.
    """

    engine: Engine
    archives: S3Services
    chunk_size: int
    most_vanished: float = 0.2

    def plan(
        self,
        source: Source,
        queue: str,
        *,
        publish: Callable[[], object] = lambda: None,
        report: Callable[[Planned], None] = lambda planned: None,
    ) -> Planned:
        """Plan all objects of a source that have no outcome yet; join its unfinished run.

        Args:
            source: what to list.
            queue: `backfill` or `interactive`.
            publish: called after each page.
            report: called with the progress, before the first page and after each.

        Raises:
            NoActiveRelease: no release is registered and active.
            PlannedElsewhere: another process is planning the run.
            RunStopped: the run was cancelled, or its archive paused or removed.
            GeotagError: the source's own errors. Planning again goes on after the last page.
        """
        archive_id = source.archive.id if source.archive else None
        run = runs.open_run(self.engine, source.name, queue, archive_id)
        with bound(run=run.id), runs.plan_lease(self.engine, run.id):
            return self._go_on(run, source, publish, report)

    def resume(
        self,
        run_id: int,
        *,
        publish: Callable[[], object] = lambda: None,
        report: Callable[[Planned], None] = lambda planned: None,
    ) -> Planned:
        """Plan a run of one archive to its end, from where it is; for the rest see `plan`.

        The caller has the lease of the run's planning (`db.runs.plan_lease`).
        """
        with bound(run=run_id):
            run = runs.run_to_plan(self.engine, run_id)
            return self._go_on(run, self._source(run), publish, report)

    def _source(self, run: Run) -> Source:
        """Return the source of a run, by its name in the ledger."""
        registered = archives.registered(self.engine)
        archive = next((a for a in registered if a.id == run.archive_id), None)
        if archive is None:
            raise RunStopped
        if INVENTORY in run.source:
            return inventory(self.archives, registered, archive, run.source)
        return listing(self.archives, archive, parse_s3_url(run.source)[1])

    def _go_on(
        self,
        run: Run,
        source: Source,
        publish: Callable[[], object],
        report: Callable[[Planned], None],
    ) -> Planned:
        runs.may_go_on(self.engine, run.id)
        room = runs.room(self.engine, run.id)
        planned = Planned(run.id, run.totals)
        report(planned)
        pages = source.pages(run.cursor)
        while room is None or planned.planned < room:
            try:
                page = next(pages, None)
            except CursorRefused:
                run = runs.start_over(self.engine, run)
                pages = source.pages(None)
                continue
            if page is None:
                vanished = planning.close_plan(
                    self.engine,
                    run,
                    source.whole(run.created_at),
                    most_vanished=self.most_vanished,
                )
                publish()
                return Planned(run.id, run.totals, planned.planned, vanished)
            with metrics.stage("plan"):
                done = planning.plan_page(
                    self.engine,
                    run,
                    page,
                    chunk_size=self.chunk_size,
                    as_of=source.as_of,
                    most=None if room is None else room - planned.planned,
                )
            run = done.run
            objects = sum(len(chunk.object_version_ids) for chunk in done.chunks)
            planned = Planned(run.id, run.totals, planned.planned + objects)
            metrics.LISTED.inc(len(page.objects))
            metrics.PLANNED.inc(objects)
            publish()
            report(planned)
            runs.may_go_on(self.engine, run.id)
        planning.close_plan(self.engine, run)
        return planned
