"""Control loop: start due schedules, recover dead planners, publish pending chunks.

Celery beat sends two messages every few seconds: `geotag.tick` to the queue `control`, and
`geotag.plan` to the queue `planning`. What is to be done is in the ledger. A message too many, a
lost message or a second beat therefore changes nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import dispatch, runs, schedules
from db.engine import is_transient
from db.runs import NoActiveRelease, PlannedElsewhere, RunStopped
from workers.broker.app import PLAN, TICK, BrokerUnavailable
from workers.broker.publisher import Publisher
from workers.chunks.shutdown import Deadline
from workers.errors import GeotagError, TransientError
from workers.planning.planner import Planner

log = logging.getLogger(__name__)


class ToldToStop(Exception):
    """The planning process received SIGTERM; another one goes on after the last page."""


class Clients(Protocol):
    """The clients of the control loop. Each is made at its first use, which is after the fork."""

    @property
    def engine(self) -> Engine:
        """Engine of the ledger."""

    def publisher(self) -> Publisher:
        """Return the publisher of chunks."""

    def planner(self) -> Planner:
        """Return the planner of runs."""


@dataclass(frozen=True)
class ControlLoop:
    """Starts scheduled runs, and plans and publishes what waits."""

    clients: Clients
    deadline: Deadline = field(default_factory=Deadline)
    # When each try began that ended because the database was unavailable, by run. The ledger has no
    # record yet that it ended.
    _interrupted: dict[int, datetime] = field(default_factory=dict)

    def tick(self, now: datetime | None = None) -> None:
        """Start the nights that are due, recall lost chunks, and publish what may go.

        An error in starting nights does not stop publishing.

        Raises:
            BrokerUnavailable: the broker did not take a chunk. Nights were started all the same.
        """
        now = now or dispatch.clock(self.clients.engine)
        self._start_nights(now)
        self.clients.publisher().round(now)

    def _start_nights(self, now: datetime) -> None:
        try:
            for night in schedules.start_due(self.clients.engine, now):
                log.info("run %d: the night of %s", night.run_id, night.scheduled_for.isoformat())
        except Exception:
            # The process's edge: an error here must not stop publishing for every archive.
            log.exception("no night can be started")

    def plan(self, now: datetime | None = None) -> int | None:
        """Plan a run that waits for a planner to its end; return its id, or None if none waits.

        Its chunks are published while it is planned. The try is counted before planning. An error
        is recorded on the run, which is tried again later, and parked after some tries.

        Args:
            now: time for every step; None reads the ledger's clock at each.
        """
        engine = self.clients.engine
        for run_id, began in list(self._interrupted.items()):
            runs.plan_ended(engine, run_id, began)
            del self._interrupted[run_id]
        found = runs.next_plan(engine, now or dispatch.clock(engine))
        if found is None:
            return None
        try:
            with self.deadline.heeding_sigterm(0), runs.plan_lease(engine, found):
                began = now or dispatch.clock(engine)
                if runs.begin_plan(engine, found, began):
                    self._try(found, began, now)
        except PlannedElsewhere:
            log.info("run %d: another process plans it", found)
        return found

    def _try(self, run_id: int, began: datetime, now: datetime | None) -> None:
        """Plan a run whose lease we have, and record how that ended."""
        try:
            self.clients.planner().resume(run_id, publish=self._between_pages)
        except (PlannedElsewhere, RunStopped, ToldToStop) as reason:
            log.info("run %d: planning stops: %s", run_id, type(reason).__name__)
        except (GeotagError, NoActiveRelease) as error:
            code = getattr(error, "code", "no_active_release")
            unavailable = isinstance(error, (TransientError, NoActiveRelease))
            self._failed(run_id, began, f"{code}: {error}", now, unavailable=unavailable)
            return
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and is_transient(error):
                self._interrupted[run_id] = began
                raise
            # The process's edge: a run that breaks its planner must not keep the others waiting.
            log.exception("run %d: internal error", run_id)
            # A database error has its statement in the lines after the first.
            self._failed(run_id, began, f"internal_error: {error}".partition("\n")[0], now)
            return
        runs.plan_ended(self.clients.engine, run_id, began)

    def _failed(
        self,
        run_id: int,
        began: datetime,
        reason: str,
        now: datetime | None,
        *,
        unavailable: bool = False,
    ) -> None:
        engine = self.clients.engine
        failed_at = now or dispatch.clock(engine)  # planning may have taken hours
        again = runs.plan_failed(engine, run_id, began, reason, failed_at, unavailable=unavailable)
        if again is None:
            log.error("run %d: cannot be planned (%s) and is parked", run_id, reason)
        else:
            log.warning("run %d: cannot be planned (%s), again at %s", run_id, reason, again)

    def _between_pages(self) -> None:
        if self.deadline.passed():
            raise ToldToStop
        try:
            self.clients.publisher().top_up()
        except BrokerUnavailable as error:
            # The chunks are in the ledger: planning goes on, and a tick publishes them.
            log.warning("nothing is published: %s", error.message)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise
            # It is no fault of the run that is planned, and must not park it.
            log.exception("nothing is published: internal error")


def register(app: Celery, control_loop: ControlLoop) -> None:
    """Register the two tasks that Celery beat sends (see `workers.broker.app.make_app`)."""

    # Acknowledged at once: a lost message is followed by the next.
    @app.task(name=TICK, shared=False, acks_late=False)
    def tick() -> None:
        _until_next_tick(control_loop.tick)

    @app.task(name=PLAN, shared=False, acks_late=False)
    def plan() -> None:
        _until_next_tick(control_loop.plan)


def _until_next_tick(step: Callable[[], object]) -> None:
    """Run a step; if a service is unavailable, log it and leave the step to the next tick."""
    try:
        step()
    except BrokerUnavailable as error:
        log.warning("%s", error.message)
    except SQLAlchemyError as error:
        if not is_transient(error):
            raise
        log.warning("the database is unavailable")
