"""Pause, resume and cancel runs."""

from datetime import datetime

from sqlalchemy import Engine, text

from db.dispatch import recall_closed
from db.runs import NO_FAILURE


class RunUnknown(Exception):
    """No run of that number can be paused, resumed or cancelled."""


def pause_run(engine: Engine, run_id: int, now: datetime) -> None:
    """Publish nothing of a run until it is resumed. Chunks that workers have begun are finished.

    Raises:
        RunUnknown: there is no such run, or it is cancelled.
    """
    _change(engine, run_id, "paused_at = coalesce(paused_at, :now)", now)


def resume_run(engine: Engine, run_id: int, now: datetime) -> None:
    """Go on with a paused run. Plan a parked run again, with all of its tries.

    Raises:
        RunUnknown: there is no such run, or it is cancelled.
    """
    _change(engine, run_id, f"paused_at = NULL, {NO_FAILURE}", now)


def cancel_run(engine: Engine, run_id: int, now: datetime) -> None:
    """End a run. Its objects without an outcome stay pending, for another run.

    Raises:
        RunUnknown: there is no such run, or it is cancelled already.
    """
    _change(
        engine,
        run_id,
        "cancelled_at = :now, planned_at = coalesce(planned_at, :now), paused_at = NULL",
        now,
    )


def _change(engine: Engine, run_id: int, change: str, now: datetime) -> None:
    with engine.begin() as connection:
        changed = connection.execute(
            text(
                f"UPDATE geotag.run SET {change}"
                " WHERE id = :id AND cancelled_at IS NULL RETURNING id"
            ),
            {"id": run_id, "now": now},
        ).one_or_none()
    if changed is None:
        raise RunUnknown
    recall_closed(engine, now)
