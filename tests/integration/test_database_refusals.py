"""Statements that PostgreSQL ends for a transient reason fail no object."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from db import ledger
from db.engine import is_transient
from db.leases import ChunkLeasedElsewhere, Lease
from geotag.context import Context
from tests.images import good_files
from tests.integration.test_chunk import Worker, attempts, chunk_of
from tests.stack_helpers import results, until

PASSING = {
    "08006": "connection_failure",
    "25006": "read_only_sql_transaction, as after a failover to a standby",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "55P03": "lock_not_available",
    "57014": "query_canceled: statement_timeout or pg_cancel_backend",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "58030": "io_error",
}
OURS = {
    "22003": "numeric_value_out_of_range",
    "23514": "check_violation",
    "42501": "insufficient_privilege",
    "42P01": "undefined_table",
    "54000": "program_limit_exceeded",
    "55000": "object_not_in_prerequisite_state",
}


@pytest.fixture
def engine(running: Context) -> Engine:
    return running.engine


@pytest.fixture
def worker(running: Context, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(running, monkeypatch)


@pytest.mark.parametrize("code", [*PASSING, *OURS])
def test_sqlstate_decides_whether_an_error_is_transient(engine: Engine, code: str) -> None:
    raised = text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    with pytest.raises(SQLAlchemyError) as caught, engine.begin() as connection:
        connection.execute(raised)
    assert is_transient(caught.value) is (code in PASSING)


def set_for_all_sessions(engine: Engine, setting: str) -> None:
    def connected(session: Any, _record: object) -> None:
        with session.cursor() as cursor:
            cursor.execute(f"SET {setting}")
        session.commit()

    event.listen(engine, "connect", connected)


def cancel_waiting_statement(engine: Engine) -> None:
    """Cancel the statement that waits for the lock on the outcomes, as an administrator does."""
    query = text(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database() AND query LIKE '%INSERT INTO geotag.outcome%'"
    )

    def cancelled() -> bool:
        with engine.begin() as connection:
            return any(connection.execute(query).scalars())

    until(cancelled)


@contextmanager
def outcomes_locked(engine: Engine) -> Iterator[Connection]:
    """Lock the outcomes against writing until the connection's transaction ends."""
    with engine.connect() as blocker:
        blocker.execute(text("LOCK TABLE geotag.outcome IN SHARE MODE"))
        yield blocker


@pytest.mark.parametrize("how", ["lock_timeout", "statement_timeout", "pg_cancel_backend"])
def test_cancelled_statement_fails_no_photograph(
    running: Context, bucket: str, worker: Worker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    chunk = chunk_of(running, bucket, {"a.jpg": good_files()["plain.jpg"] + bucket.encode()})
    context = worker.new_context(patience=60.0)
    if how != "pg_cancel_backend":
        set_for_all_sessions(context.engine, f"{how} = '500ms'")
    write, refused = ledger.write_results, []

    def write_once_locked(*arguments: Any) -> None:
        if refused:
            return write(*arguments)
        with outcomes_locked(running.engine):
            canceller = threading.Thread(target=cancel_waiting_statement, args=(running.engine,))
            if how == "pg_cancel_backend":
                canceller.start()
            try:
                write(*arguments)
            except SQLAlchemyError as error:
                refused.append(error.orig.pgcode)  # type: ignore[attr-defined]
                raise
            finally:
                if how == "pg_cancel_backend":
                    canceller.join()

    monkeypatch.setattr(ledger, "write_results", write_once_locked)
    worker.deliver(chunk)
    assert refused == ["55P03" if how == "lock_timeout" else "57014"]
    (row,) = results(running, bucket).values()
    assert (row.state, row.code) == ("geotagged", None)
    assert attempts(running, chunk) == {None}


def leased(engine: Engine, chunk_id: int) -> bool:
    try:
        Lease(engine, chunk_id).release()
    except ChunkLeasedElsewhere:
        return False
    return True


def test_lease_whose_statement_is_cancelled_after_it_locked_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the session would return to the pool with the lock."""
    lock: Callable[[Lease, str], bool] = Lease._lock

    def cancelled(self: Lease, name: str) -> bool:
        lock(self, name)
        raise OperationalError("select", None, Exception("canceling statement"))

    with monkeypatch.context() as patched:
        patched.setattr(Lease, "_lock", cancelled)
        with pytest.raises(OperationalError) as caught:
            Lease(engine, 10**9)
    until(lambda: leased(engine, 10**9), seconds=20)
    assert caught.value
