"""What goes on by itself: nights that are due, planners that died, chunks to publish.

Celery beat says no more than "look into the ledger", every few seconds, by two messages:
`geotag.tick` to the queue `control`, and `geotag.plan` to the queue `planning`. What there is to do
is rows, so that a message more, or one that is lost, or a second beat, changes nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import dispatch, schedules
from db.engine import is_away
from db.planning import NoActiveRelease, PlannedElsewhere, RunStopped
from workers.app import CONTROL, PLANNING, BrokerUnavailable, at_broker
from workers.backfill import Planner
from workers.errors import GeotagError
from workers.publisher import Publisher

log = logging.getLogger(__name__)

TICK = "geotag.tick"
PLAN = "geotag.plan"


class ToldToStop(Exception):
    """The planning process was told to stop; another one goes on from the last page."""


@dataclass(frozen=True)
class Keeper:
    """Keeps nights coming and runs going.

    Args:
        engine: of the ledger.
        publisher: of chunks.
        planner: made when a run is to be planned.
        stopping: whether this process was told to stop.
    """

    engine: Engine
    publisher: Publisher
    planner: Callable[[], Planner]
    stopping: Callable[[], bool] = lambda: False

    def tick(self, now: datetime | None = None) -> None:
        """Start the nights that are due, take back what was lost, publish what may go.

        Raises:
            BrokerUnavailable: the broker is away; the nights are there all the same.
        """
        now = now or dispatch.clock(self.engine)
        for night in schedules.start_due(self.engine, now):
            log.info("run %d: the night of %s", night.run_id, night.scheduled_for.isoformat())
        self.publisher.round(now)

    def plan(self, now: datetime | None = None) -> int | None:
        """Plan a run that waits for a planner, to its end; returns it, or None where none waits.

        Its chunks are published while it is planned. What went wrong is noted on the run, and it is
        tried again later.
        """
        now = now or dispatch.clock(self.engine)
        run_id = schedules.next_plan(self.engine, now)
        if run_id is None:
            return None
        try:
            self.planner().resume(run_id, publish=self._between_pages)
        except (PlannedElsewhere, RunStopped, ToldToStop) as reason:
            log.info("run %d: planning stops here: %s", run_id, type(reason).__name__)
        except (GeotagError, NoActiveRelease) as error:
            code = getattr(error, "code", "no_active_release")
            again = schedules.plan_failed(self.engine, run_id, f"{code}: {error}", now)
            log.warning("run %d: cannot be planned (%s), again at %s", run_id, code, again)
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and is_away(error):
                raise
            # The process's edge: a run that breaks its planner must not keep the others waiting.
            log.exception("run %d: internal error", run_id)
            schedules.plan_failed(self.engine, run_id, f"internal_error: {error}", now)
        return run_id

    def _between_pages(self) -> None:
        if self.stopping():
            raise ToldToStop
        try:
            self.publisher.top_up()
        except BrokerUnavailable as error:
            # The ledger has the chunks: planning goes on, and a tick publishes them.
            log.warning("nothing is published: %s", error.message)


def register(app: Celery, keeper: Callable[[], Keeper], tick_seconds: float) -> None:
    """Teach the application the two tasks, and beat when to send them.

    `keeper` is asked for at each task: its clients are made after the fork.
    """

    # Acknowledged at once: a message that is lost is followed by the next.
    @app.task(name=TICK, shared=False, acks_late=False)
    def tick() -> None:
        _look(lambda: keeper().tick())

    @app.task(name=PLAN, shared=False, acks_late=False)
    def plan() -> None:
        _look(lambda: keeper().plan())

    app.conf.beat_schedule = {
        name: {
            "task": name,
            "schedule": tick_seconds,
            # Those that piled up while nobody listened have nothing to say.
            "options": {"queue": at_broker(queue), "expires": 2 * tick_seconds},
        }
        for name, queue in ((TICK, CONTROL), (PLAN, PLANNING))
    }


def _look(at_ledger: Callable[[], object]) -> None:
    """The process's edge: a service that is away is looked for again at the next tick."""
    try:
        at_ledger()
    except BrokerUnavailable as error:
        log.warning("%s", error.message)
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        log.warning("the database is away")
