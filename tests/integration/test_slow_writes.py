"""A write that takes longer than PostgreSQL's statement_timeout is made in smaller parts."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from geotag.context import Context
from tests.images import good_files
from tests.integration.test_chunk import Worker, attempts, chunk_of
from tests.integration.test_database_refusals import set_for_all_sessions
from tests.stack_helpers import results


@pytest.fixture
def slow_outcomes(running: Context) -> Iterator[None]:
    """Each outcome takes the database 0.3 s."""
    slow = (
        "CREATE FUNCTION geotag.test_slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$",
        "CREATE TRIGGER test_slow BEFORE INSERT ON geotag.outcome"
        " FOR EACH ROW EXECUTE FUNCTION geotag.test_slow()",
    )
    with running.engine.begin() as connection:
        for statement in slow:
            connection.execute(text(statement))
    yield
    with running.engine.begin() as connection:
        connection.execute(text("DROP FUNCTION geotag.test_slow CASCADE"))


def test_chunk_whose_write_always_times_out_is_written_in_parts(
    running: Context,
    bucket: str,
    slow_outcomes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it would be inferred, refused and published again without end."""
    picture = good_files()["plain.jpg"] + bucket.encode()
    # Duplicates too: the outcome of one needs the geotag that another brings.
    files = {f"{i}.jpg": picture + b"01230123"[i : i + 1] for i in range(8)}
    chunk = chunk_of(running, bucket, files)
    worker = Worker(running, monkeypatch)
    set_for_all_sessions(worker.context.engine, "statement_timeout = '1s'")
    worker.deliver(chunk)
    assert worker.sent == []
    assert {row.state for row in results(running, bucket).values()} == {"geotagged"}
    assert attempts(running, chunk) == {None}
