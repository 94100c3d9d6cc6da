"""What goes on by itself: nights that are due, planners that died, chunks to publish.

Celery beat says no more than "look into the ledger", every few seconds, by two messages:
`geotag.tick` to the queue `control`, and `geotag.plan` to the queue `planning`. What there is to do
is rows, so that a message more, or one that is lost, or a second beat, changes nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import dispatch, schedules
from db.engine import is_transient
from db.runs import NoActiveRelease, PlannedElsewhere, RunStopped
from workers.broker.app import PLAN, TICK, BrokerUnavailable
from workers.broker.publisher import Publisher
from workers.chunks.shutdown import Deadline
from workers.errors import GeotagError
from workers.planning.planner import Planner

log = logging.getLogger(__name__)


class ToldToStop(Exception):
    """The planning process was told to stop; another one goes on from the last page."""


class Clients(Protocol):
    """What a keeper works with; each is made when first asked for, which is after the fork."""

    @property
    def engine(self) -> Engine:
        """The ledger."""

    def publisher(self) -> Publisher:
        """Of chunks."""

    def planner(self) -> Planner:
        """Of runs."""


@dataclass(frozen=True)
class ControlLoop:
    """Keeps nights coming and runs going."""

    clients: Clients
    deadline: Deadline = field(default_factory=Deadline)

    def tick(self, now: datetime | None = None) -> None:
        """Start the nights that are due, take back what was lost, publish what may go.

        Raises:
            BrokerUnavailable: the broker is away; the nights are there all the same.
        """
        now = now or dispatch.clock(self.clients.engine)
        for night in schedules.start_due(self.clients.engine, now):
            log.info("run %d: the night of %s", night.run_id, night.scheduled_for.isoformat())
        self.clients.publisher().round(now)

    def plan(self, now: datetime | None = None) -> int | None:
        """Plan a run that waits for a planner, to its end; returns it, or None where none waits.

        Its chunks are published while it is planned. What went wrong is noted on the run, and it is
        tried again later.
        """
        now = now or dispatch.clock(self.clients.engine)
        run_id = schedules.next_plan(self.clients.engine, now)
        if run_id is None:
            return None
        try:
            with self.deadline.heeding_sigterm(0):
                self.clients.planner().resume(run_id, publish=self._between_pages)
        except (PlannedElsewhere, RunStopped, ToldToStop) as reason:
            log.info("run %d: planning stops here: %s", run_id, type(reason).__name__)
        except (GeotagError, NoActiveRelease) as error:
            code = getattr(error, "code", "no_active_release")
            again = schedules.plan_failed(self.clients.engine, run_id, f"{code}: {error}", now)
            log.warning("run %d: cannot be planned (%s), again at %s", run_id, code, again)
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and is_transient(error):
                raise
            # The process's edge: a run that breaks its planner must not keep the others waiting.
            log.exception("run %d: internal error", run_id)
            schedules.plan_failed(self.clients.engine, run_id, f"internal_error: {error}", now)
        return run_id

    def _between_pages(self) -> None:
        if self.deadline.passed():
            raise ToldToStop
        try:
            self.clients.publisher().top_up()
        except BrokerUnavailable as error:
            # The ledger has the chunks: planning goes on, and a tick publishes them.
            log.warning("nothing is published: %s", error.message)


def register(app: Celery, keeper: ControlLoop) -> None:
    """Register the two tasks that Celery beat sends (see `workers.broker.app.make_app`)."""

    # Acknowledged at once: a message that is lost is followed by the next.
    @app.task(name=TICK, shared=False, acks_late=False)
    def tick() -> None:
        _look(keeper.tick)

    @app.task(name=PLAN, shared=False, acks_late=False)
    def plan() -> None:
        _look(keeper.plan)


def _look(at_ledger: Callable[[], object]) -> None:
    """The process's edge: a service that is away is looked for again at the next tick."""
    try:
        at_ledger()
    except BrokerUnavailable as error:
        log.warning("%s", error.message)
    except SQLAlchemyError as error:
        if not is_transient(error):
            raise
        log.warning("the database is away")
