"""Two planners of one run, and one archive's error among others, over the real PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from db import control, planning, runs, schedules
from db.planning import ListedPage
from db.runs import PlannedElsewhere, plan_lease
from geotag.context import Context
from tests.integration.test_islands import NIGHT
from tests.integration.test_planner_deaths import columns, unplanned
from tests.integration.test_schedules import (
    Clients,
    change_run,
    forget_others,
    nights_of,
    planned,
    scheduled,
)
from tests.ledger_helpers import listed
from tests.stack_helpers import until
from workers.planning.control_loop import ControlLoop

FIRST = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine(running: Context) -> Iterator[Engine]:
    """The ledger, with no schedule and no run to plan but the test's."""
    forget_others(running.engine)
    yield running.engine
    forget_others(running.engine)


def record_a_page(engine: Engine, run_id: int) -> None:
    run = runs.run_to_plan(engine, run_id)
    page = ListedPage(listed(run.archive_id, [f"{run.pages}.jpg"]), cursor={"token": "next"})
    planning.plan_page(engine, run, page, chunk_size=8)


def test_a_planner_that_dies_after_a_page_does_not_keep_the_others_waiting(engine: Engine) -> None:
    dying, other = unplanned(engine), unplanned(engine)
    with plan_lease(engine, dying):
        assert runs.begin_plan(engine, dying, FIRST)
        record_a_page(engine, dying)
    assert until(lambda: runs.next_plan(engine, FIRST)) == other
    later = FIRST + timedelta(hours=1)
    with plan_lease(engine, other):
        assert runs.next_plan(engine, later) == dying


@pytest.mark.parametrize("how", ["interrupted", "overtaken", "failed"])
def test_a_planner_does_not_end_the_try_of_another(engine: Engine, how: str) -> None:
    """A planner may lose its lease and not its life: the database restarts, and another begins."""
    run_id = unplanned(engine)
    clients = Clients(engine)
    loop = ControlLoop(clients)
    noticed, second = FIRST + timedelta(minutes=30), FIRST + timedelta(hours=1)
    lease = plan_lease(engine, run_id)

    def lose_the_lease(_run_id: int, *, publish: Any) -> None:
        with engine.begin() as connection:
            runs_lock = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            connection.execute(text(f"{runs_lock} AND pid <> pg_backend_pid()"))
        found = until(lambda: runs.next_plan(engine, noticed) or runs.next_plan(engine, second))
        assert found == run_id
        lease.__enter__()
        assert runs.begin_plan(engine, run_id, second)
        if how == "interrupted":
            raise OperationalError("SELECT 1", {}, Exception("the server closed the connection"))
        if how == "overtaken":
            raise PlannedElsewhere(run_id)
        raise ValueError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients.plans, "resume", lose_the_lease)
        try:
            loop.plan(FIRST)
        except OperationalError:
            assert how == "interrupted"
    try:
        assert loop.plan(second) is None
        run = columns(engine, run_id)
        assert run.plan_began_at == second
        # One planner was lost, and one is under way.
        assert (run.plan_tries, run.plan_faults) == (2, 2)
    finally:
        lease.__exit__(None, None, None)


@pytest.mark.parametrize("state", ["57014", "55P03", "40P01"])
def test_a_night_whose_statement_is_cancelled_stops_no_other(engine: Engine, state: str) -> None:
    bad, good = scheduled(engine), scheduled(engine)
    with engine.begin() as connection:
        for statement in (
            "CREATE FUNCTION geotag.test_refusal() RETURNS trigger LANGUAGE plpgsql AS $$"
            f" BEGIN RAISE EXCEPTION 'it takes too long' USING ERRCODE = '{state}'; END $$",
            "CREATE TRIGGER test_refusal BEFORE INSERT ON geotag.run FOR EACH ROW"
            f" WHEN (NEW.source = 's3://{bad}/') EXECUTE FUNCTION geotag.test_refusal()",
        ):
            connection.execute(text(statement))
    clients = Clients(engine)
    try:
        ControlLoop(clients).tick(NIGHT)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION geotag.test_refusal CASCADE"))
    assert clients.rounds == 1
    assert len(nights_of(engine, good)) == 1
    ControlLoop(clients).tick(NIGHT)
    assert len(nights_of(engine, bad)) == 1


def test_an_error_in_publishing_is_none_of_the_run_that_is_planned(engine: Engine) -> None:
    run_id = unplanned(engine)
    clients = Clients(engine)

    def refuse() -> int:
        raise ProgrammingError("SELECT 1", {}, Exception("a row of another archive"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "top_up", refuse)
        patch.setattr(clients.plans, "resume", lambda _run_id, *, publish: publish())
        assert ControlLoop(clients).plan(FIRST) == run_id
    run = columns(engine, run_id)
    assert (run.plan_tries, run.plan_error) == (0, None)


def test_a_resumed_night_leaves_out_objects_of_the_night_after_it(engine: Engine) -> None:
    """The next night is not held back by one that is parked, and has its objects by then."""
    archive = scheduled(engine, most=4)
    (first,) = schedules.start_due(engine, NIGHT)
    change_run(engine, first.run_id, "parked_at = now()")
    (second,) = schedules.start_due(engine, NIGHT + timedelta(days=1))
    assert planned(engine, archive, second) == ["a", "b", "c", "d"]
    control.resume_run(engine, first.run_id, NIGHT + timedelta(days=1))
    assert planned(engine, archive, first) == ["e", "f"]
