"""Order, limits and recall of published chunks, on the real PostGIS."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import Engine, text

from db import control, dispatch, ledger
from db.engine import sql
from db.leases import Lease
from db.ledger import Result
from db.planning import PlannedChunk
from db.reads import run_progress
from geotag.context import Context
from tests.ledger_helpers import new_archive
from tests.stack_helpers import until
from workers.broker.app import BACKFILL, INTERACTIVE

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PATIENCE = 30.0


@pytest.fixture
def engine(running: Context) -> Iterator[Engine]:
    """The ledger, without unpublished chunks of other tests."""
    with running.engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.chunk SET finished_at = now() WHERE finished_at IS NULL")
        )
    yield running.engine
    with running.engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.chunk SET finished_at = now() WHERE finished_at IS NULL")
        )


def reachable(engine: Engine) -> int:
    """Return the id of a new archive whose chunks may be published."""
    archive_id = new_archive(engine)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.archive SET paused_at = NULL WHERE id = :id"), {"id": archive_id}
        )
    return archive_id


def run_of(
    engine: Engine,
    chunks: int,
    *,
    objects: int = 1,
    archive: int | None = None,
    queue: str = BACKFILL,
) -> int:
    """Return the id of a planned run over new objects."""
    given = {"archive": archive or reachable(engine), "n": chunks, "objects": objects}
    with engine.begin() as connection:
        run_id: int = connection.execute(
            text(
                "INSERT INTO geotag.run (source, queue, release_id, planned_at)"
                " SELECT 'test', :queue, id, now() FROM geotag.release WHERE active RETURNING id"
            ),
            {"queue": queue},
        ).scalar_one()
        connection.execute(
            text(
                "WITH object AS (INSERT INTO geotag.object_version (archive_id, key, etag, size)"
                "  SELECT :archive, gen_random_uuid()::text, '1', 1"
                "  FROM generate_series(1, :n * :objects) RETURNING id),"
                " made AS (INSERT INTO geotag.chunk (run_id, archive_id)"
                "  SELECT :run, :archive FROM generate_series(1, :n) RETURNING id)"
                " INSERT INTO geotag.run_object (run_id, object_version_id, chunk_id)"
                " SELECT :run, o.id, c.id"
                " FROM (SELECT id, row_number() OVER () - 1 AS n FROM object) o"
                " JOIN (SELECT id, row_number() OVER () - 1 AS n FROM made) c"
                " ON c.n = o.n / :objects"
            ),
            given | {"run": run_id},
        )
    return run_id


def publish(
    engine: Engine, most: int | None = None, *, queue: str = BACKFILL, now: datetime = NOW
) -> list[PlannedChunk]:
    sent: list[PlannedChunk] = []
    assert dispatch.publish_waiting(engine, queue, now, sent.append, most) == len(sent)
    return sent


def finish(engine: Engine, chunk: PlannedChunk) -> None:
    """Finish a chunk, as a worker does."""
    assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is not None
    failed = [Result(id_, "failed", "corrupt", "") for id_ in chunk.object_version_ids]
    ledger.write_results(engine, chunk.chunk_id, failed)


def runs_of(engine: Engine, chunks: list[PlannedChunk]) -> list[int]:
    with engine.connect() as connection:
        query = text("SELECT id, run_id FROM geotag.chunk WHERE id = ANY(:ids)")
        rows = connection.execute(query, {"ids": [chunk.chunk_id for chunk in chunks]})
        of = {row.id: row.run_id for row in rows}
    return [of[chunk.chunk_id] for chunk in chunks]


def test_no_more_than_the_limit_is_published_and_unfinished(engine: Engine) -> None:
    run_of(engine, 10)
    first = publish(engine, 4)
    assert len(first) == 4
    assert publish(engine, 4) == []
    for chunk in first[:3]:
        finish(engine, chunk)
    assert len(publish(engine, 4)) == 3
    assert publish(engine, 3) == []  # the limit was lowered below what is published


def test_message_names_the_objects_of_its_chunk(engine: Engine) -> None:
    run_id = run_of(engine, 2, objects=3)
    query = "SELECT array_agg(object_version_id) FROM geotag.run_object WHERE run_id = :id"
    with engine.connect() as connection:
        ids = connection.execute(text(query), {"id": run_id}).scalar_one()
    sent = publish(engine, 9)
    assert [len(chunk.object_version_ids) for chunk in sent] == [3, 3]
    assert sorted(id_ for chunk in sent for id_ in chunk.object_version_ids) == sorted(ids)


def test_huge_archive_does_not_starve_a_small_one(engine: Engine) -> None:
    huge = run_of(engine, 100_000, objects=0)
    assert set(runs_of(engine, publish(engine, 16))) == {huge}
    small = run_of(engine, 3)
    finished = 0
    while finished < 16:  # the published chunks of the huge archive finish one by one
        with engine.connect() as connection:
            oldest = connection.execute(
                text(
                    "SELECT id FROM geotag.chunk WHERE run_id = :run AND published_at IS NOT NULL"
                    " AND finished_at IS NULL ORDER BY id LIMIT 1"
                ),
                {"run": huge},
            ).scalar_one()
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE geotag.chunk SET finished_at = now() WHERE id = :id"), {"id": oldest}
            )
        finished += 1
        (next_,) = publish(engine, 16)
        expected = small if finished <= 3 else huge
        assert runs_of(engine, [next_]) == [expected]


def test_archives_share_the_queue_evenly_however_many_runs_they_have(engine: Engine) -> None:
    first, second = reachable(engine), reachable(engine)
    runs = [run_of(engine, 50, archive=first) for _ in range(4)]
    alone = run_of(engine, 50, archive=second)
    shares = Counter(run == alone for run in runs_of(engine, publish(engine, 40)))
    assert shares == {True: 20, False: 20}
    assert len(publish(engine, 60)) == 20
    assert runs_of(engine, publish(engine, 61))[0] in {runs[0], runs[1], alone}


def test_oldest_run_of_an_archive_comes_first(engine: Engine) -> None:
    archive = reachable(engine)
    old, new = (run_of(engine, 5, archive=archive) for _ in range(2))
    assert runs_of(engine, publish(engine, 7)) == [old] * 5 + [new] * 2


def test_interactive_chunks_are_unlimited_and_wait_for_no_other_publisher(engine: Engine) -> None:
    run_of(engine, 20)
    publish(engine, 10)
    question = run_of(engine, 12, queue=INTERACTIVE)
    asked: list[PlannedChunk] = []

    def publish_interactive(_chunk: PlannedChunk) -> None:
        # Inside the transaction of another publisher, which has its locks.
        asked.extend(publish(engine, queue=INTERACTIVE))

    assert dispatch.publish_waiting(engine, BACKFILL, NOW, publish_interactive, 11) == 1
    assert runs_of(engine, asked) == [question] * 12
    assert publish(engine, queue=INTERACTIVE) == []
    assert publish(engine, 11) == []  # they do not count towards the limit


def test_many_publishers_at_once_send_each_chunk_once(engine: Engine) -> None:
    run_of(engine, 300)
    question = run_of(engine, 100, queue=INTERACTIVE)

    def publisher(_number: int) -> list[PlannedChunk]:
        sent = publish(engine, queue=INTERACTIVE)
        for most in (50, 100, 200):
            sent += publish(engine, most)
        return sent

    with ThreadPoolExecutor(8) as threads:
        chunks = [chunk for sent in threads.map(publisher, range(8)) for chunk in sent]
    while more := publish(engine, 200):  # a publisher leaves locked chunks to the other one
        chunks += more
    assert len(chunks) == len({chunk.chunk_id for chunk in chunks}) == 300
    assert Counter(runs_of(engine, chunks))[question] == 100


def test_chunk_published_during_the_query_is_not_published_again(engine: Engine) -> None:
    run_of(engine, 3, queue=INTERACTIVE)
    given = {"queue": INTERACTIVE, "now": NOW, "most": None}
    with engine.begin() as slow:
        # A cursor sees the ledger as it was when it was opened, and locks rows when it is read.
        slow.execute(text(f"DECLARE asked NO SCROLL CURSOR FOR {sql('publishable_chunks')}"), given)
        assert len(publish(engine, queue=INTERACTIVE)) == 3
        assert slow.execute(text("FETCH ALL FROM asked")).all() == []


def test_broker_that_fails_while_publishing_loses_nothing(engine: Engine) -> None:
    run_of(engine, 5)
    sent: list[PlannedChunk] = []

    def breaks(chunk: PlannedChunk) -> None:
        if len(sent) == 3:
            raise ConnectionError
        sent.append(chunk)

    with pytest.raises(ConnectionError):
        dispatch.publish_waiting(engine, BACKFILL, NOW, breaks, 10)
    again = publish(engine, 10)
    assert len(again) == 5
    assert sent == again[:3]  # same deliveries: a second message does nothing
    finish(engine, sent[0])
    assert ledger.begin_chunk(engine, again[0].chunk_id, again[0].delivery) is None


@pytest.mark.parametrize(
    ("opens", "closes", "at", "is_open"),
    [
        (time(22), time(6), "2026-07-01 21:59:59+02:00", False),
        (time(22), time(6), "2026-07-01 22:00:00+02:00", True),
        (time(22), time(6), "2026-07-02 05:59:59+02:00", True),
        (time(22), time(6), "2026-07-02 06:00:00+02:00", False),
        (time(9), time(17), "2026-07-02 09:00:00+02:00", True),
        (time(9), time(17), "2026-07-02 17:00:00+02:00", False),
        # The window is in local time before and after the clocks change.
        (time(22), time(6), "2026-10-24 22:00:00+02:00", True),
        (time(22), time(6), "2026-10-25 05:59:59+01:00", True),
        (time(22), time(6), "2026-10-25 06:00:00+01:00", False),
    ],
)
def test_window(engine: Engine, opens: time, closes: time, at: str, is_open: bool) -> None:
    run_id = run_of(engine, 1)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE geotag.run SET opens = :opens, closes = :closes,"
                " timezone = 'Europe/Berlin' WHERE id = :id"
            ),
            {"id": run_id, "opens": opens, "closes": closes},
        )
    now = datetime.fromisoformat(at)
    sent = publish(engine, 10, now=now)
    assert bool(sent) == is_open
    if is_open:
        assert dispatch.recall_closed(engine, now) == 0
        # Chunks that wait at the broker are recalled when the window closes.
        assert dispatch.recall_closed(engine, now + timedelta(hours=10)) == 1
        assert ledger.begin_chunk(engine, sent[0].chunk_id, sent[0].delivery) is None


def test_paused_run_is_recalled_and_continues_when_resumed(engine: Engine) -> None:
    run_id = run_of(engine, 6)
    finished, leased_chunk, *waiting = publish(engine, 4)
    finish(engine, finished)
    lease = Lease(engine, leased_chunk.chunk_id)
    try:
        control.pause_run(engine, run_id, NOW)
        assert ledger.begin_chunk(engine, leased_chunk.chunk_id, leased_chunk.delivery) is not None
    finally:
        lease.release()
    for chunk in waiting:  # their messages are still at the broker
        assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is None
    finish(engine, leased_chunk)
    assert publish(engine, 10) == []

    control.resume_run(engine, run_id, NOW)
    again = publish(engine, 10)
    assert len(again) == 4
    assert {(chunk.chunk_id, chunk.delivery) for chunk in waiting} < {
        (chunk.chunk_id, chunk.delivery - 1) for chunk in again
    } | {(chunk.chunk_id, chunk.delivery) for chunk in again}
    for chunk in again:
        finish(engine, chunk)
    (progress,) = run_progress(engine, run_id)
    assert (progress.finished, progress.done) == (True, 6)


@pytest.mark.parametrize("of_archive", [True, False])  # or the run of a manifest that names it
def test_paused_archive_is_not_published(engine: Engine, of_archive: bool) -> None:
    archive = reachable(engine)
    run_id = run_of(engine, 2, archive=archive)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.run SET archive_id = :archive WHERE id = :id"),
            {"archive": archive if of_archive else None, "id": run_id},
        )
    publish(engine, 1)
    set_paused = text("UPDATE geotag.archive SET paused_at = :at WHERE id = :id")
    with engine.begin() as connection:
        connection.execute(set_paused, {"id": archive, "at": NOW})
    assert dispatch.recall_closed(engine, NOW) == 1
    assert publish(engine, 10) == []
    with engine.begin() as connection:
        connection.execute(set_paused, {"id": archive, "at": None})
    assert len(publish(engine, 10)) == 2


def test_cancelled_run_ends_and_its_objects_stay_pending(engine: Engine) -> None:
    run_id = run_of(engine, 4, objects=2)
    finished, leased_chunk, *waiting = publish(engine, 3)
    finish(engine, finished)
    lease = Lease(engine, leased_chunk.chunk_id)
    try:
        control.cancel_run(engine, run_id, NOW)
        assert not run_progress(engine, run_id)[0].finished  # a worker processes its last chunk
        finish(engine, leased_chunk)
    finally:
        lease.release()
    for chunk in waiting:
        assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is None
    assert publish(engine, 10) == []
    (progress,) = run_progress(engine, run_id)
    assert progress.finished
    assert (progress.planned, progress.failed, progress.pending) == (8, 4, 4)


def test_chunk_handed_back_after_its_run_was_cancelled_is_closed(engine: Engine) -> None:
    run_id = run_of(engine, 1, objects=2)
    (chunk,) = publish(engine, 1)
    lease = Lease(engine, chunk.chunk_id)
    ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    ledger.open_attempts(engine, chunk.chunk_id, chunk.object_version_ids, "worker")
    done = Result(chunk.object_version_ids[0], "failed", "corrupt", "")
    ledger.write_results(engine, chunk.chunk_id, [done])
    control.cancel_run(engine, run_id, NOW)
    assert not run_progress(engine, run_id)[0].finished
    lease.release()
    until(lambda: dispatch.recall_closed(engine, NOW))
    (progress,) = run_progress(engine, run_id)
    assert (progress.finished, progress.failed, progress.pending) == (True, 1, 1)
    with engine.connect() as connection:
        query = text("SELECT code FROM geotag.attempt WHERE chunk_id = :id ORDER BY id")
        codes = connection.execute(query, {"id": chunk.chunk_id}).scalars().all()
    assert codes == ["corrupt", "handed_back"]


def test_closing_cancelled_chunks_uses_the_index_on_runs(engine: Engine) -> None:
    explain = text(f"EXPLAIN {sql('close_cancelled').text}")
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))  # even for a small table
        steps = connection.execute(explain, {"now": NOW}).scalars().all()
    assert [step for step in steps if "Index Cond: (run_id = ANY" in step]


@pytest.mark.parametrize("change", [control.pause_run, control.resume_run, control.cancel_run])
def test_unknown_and_cancelled_runs_cannot_be_changed(engine: Engine, change: object) -> None:
    assert callable(change)
    with pytest.raises(control.RunUnknown):
        change(engine, 10**12, NOW)
    run_id = run_of(engine, 1)
    control.cancel_run(engine, run_id, NOW)
    with pytest.raises(control.RunUnknown):
        change(engine, run_id, NOW)


def lost(engine: Engine, seconds: float, messages: int, *, queue: str = BACKFILL) -> int:
    now = NOW + timedelta(seconds=seconds)
    return dispatch.recall(engine, dispatch.lost_chunks(engine, queue, now, PATIENCE, messages))


def test_chunks_that_the_broker_lost_are_published_again(engine: Engine) -> None:
    run_of(engine, 8)
    finished, leased_chunk, *others = publish(engine, 6)
    finish(engine, finished)
    lease = Lease(engine, leased_chunk.chunk_id)
    try:
        assert not dispatch.any_overdue(engine, BACKFILL, NOW + timedelta(seconds=29), PATIENCE)
        assert lost(engine, 29, 0) == 0  # the message may still be on its way
        assert dispatch.any_overdue(engine, BACKFILL, NOW + timedelta(seconds=31), PATIENCE)
        assert lost(engine, 31, 4) == 0  # a long queue: each chunk has a message
        assert lost(engine, 31, 0, queue=INTERACTIVE) == 0
        assert lost(engine, 31, 3) == 1  # one message is missing: the oldest is sent again
        assert lost(engine, 31, 0) == 3  # the broker was wiped
        assert lost(engine, 31, 0) == 0
    finally:
        lease.release()
    later = NOW + timedelta(seconds=31)
    again = publish(engine, 6, now=later)
    assert {(c.chunk_id, c.delivery) for c in again} >= {(c.chunk_id, 2) for c in others}
    for chunk in others:  # its message arrives late
        assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is None


def test_sweeps_do_not_flood_a_queue_without_workers(engine: Engine) -> None:
    """Without workers, repeated sweeps must not add messages to the queue."""
    run_of(engine, 50)
    messages = len(publish(engine, 20))
    for minute in range(0, 600, 20):
        now = NOW + timedelta(minutes=minute)
        assert dispatch.lost_chunks(engine, BACKFILL, now, PATIENCE, messages) == []
        messages += len(publish(engine, 20, now=now))
    assert messages == 20


def test_chunk_whose_worker_was_killed_is_found_by_its_heartbeat(engine: Engine) -> None:
    run_of(engine, 1)
    (chunk,) = publish(engine, 1)
    lease = Lease(engine, chunk.chunk_id)
    ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.chunk SET heartbeat_at = :at WHERE id = :id"),
            {"id": chunk.chunk_id, "at": NOW + timedelta(minutes=9)},
        )
    minutes = 60.0
    assert lost(engine, 20 * minutes, 0) == 0  # it is leased: its worker is slow, not dead
    lease.release()
    until(lambda: dispatch.any_overdue(engine, BACKFILL, NOW + timedelta(minutes=20), PATIENCE))
    assert lost(engine, 9 * minutes + 29, 0) == 0
    assert lost(engine, 9 * minutes + 31, 0) == 1


def test_chunk_leased_during_a_sweep_is_not_recalled(engine: Engine) -> None:
    run_of(engine, 1)
    (chunk,) = publish(engine, 1)
    lease = Lease(engine, chunk.chunk_id)  # after the sweep's query and before its recall
    try:
        assert dispatch.recall(engine, [chunk.chunk_id]) == 0
        assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is not None
    finally:
        lease.release()
