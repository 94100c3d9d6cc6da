"""From listed objects to chunks, against the real PostGIS: nothing lost, nothing planned twice."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db import ledger, planning
from db.holds import Hold
from db.ledger import Result
from db.planning import NOTHING, PlannedPage, Totals
from db.reads import run_progress
from geotag.context import Context
from tests.ledger_helpers import listed, new_archive, new_run, planned
from workers.app import BrokerUnavailable
from workers.archive import ArchiveObject
from workers.backfill import Planner
from workers.sources import Found


@pytest.fixture
def engine(running: Context) -> Engine:
    return running.engine


def plan(
    engine: Engine,
    run_id: int,
    objects: list[planning.ListedObject],
    size: int = 8,
    before: Totals = NOTHING,
) -> PlannedPage:
    return planning.plan_page(engine, run_id, objects, skipped=0, chunk_size=size, before=before)


def keys_of(engine: Engine, archive: int, *, current: bool = True) -> list[str]:
    query = "SELECT key FROM geotag.object_version WHERE archive_id = :id"
    if current:
        query += " AND superseded_at IS NULL"
    with engine.connect() as connection:
        return sorted(connection.execute(text(query), {"id": archive}).scalars())


def fail(engine: Engine, chunk: planning.PlannedChunk) -> None:
    """Give each of a chunk's objects an outcome."""
    failed = [Result(id_, "failed", "corrupt", "") for id_ in chunk.object_version_ids]
    ledger.write_results(engine, chunk.chunk_id, failed)


def test_page_is_cut_into_chunks(engine: Engine) -> None:
    _run_id, chunks = planned(engine, [f"{i}.jpg" for i in range(10)], chunk_size=4)
    assert [len(chunk.object_version_ids) for chunk in chunks] == [4, 4, 2]
    assert len({id_ for chunk in chunks for id_ in chunk.object_version_ids}) == 10


def test_planning_again_plans_nothing_twice(engine: Engine) -> None:
    run_id, archive = new_run(engine), new_archive(engine)
    objects = listed(archive, ["a.jpg", "b.jpg"])
    assert len(plan(engine, run_id, objects).chunks) == 1
    assert plan(engine, run_id, objects).chunks == ()


def test_what_has_an_outcome_is_not_planned_again(engine: Engine) -> None:
    archive = new_archive(engine)
    objects = listed(archive, ["a.jpg", "b.jpg"])
    (chunk,) = plan(engine, new_run(engine), objects).chunks
    fail(engine, chunk)

    run_id = new_run(engine)
    page = plan(engine, run_id, [*objects, *listed(archive, ["c.jpg"])])

    assert page.totals == Totals(listed=3, done_before=2, failed_before=2)
    assert [len(chunk.object_version_ids) for chunk in page.chunks] == [1]
    (progress,) = run_progress(engine, run_id)
    assert (progress.listed, progress.done_before, progress.failed_before) == (3, 2, 2)


def test_changed_object_supersedes_its_former_version(engine: Engine) -> None:
    archive = new_archive(engine)
    (old,) = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="old")).chunks
    (new,) = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="new")).chunks
    assert old.object_version_ids != new.object_version_ids
    assert keys_of(engine, archive) == ["a.jpg"]
    assert keys_of(engine, archive, current=False) == ["a.jpg", "a.jpg"]

    # The former bytes put back are the former version, whose outcome still counts.
    fail(engine, old)
    back = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="old"))
    assert (back.chunks, back.totals.done_before) == ((), 1)
    with engine.connect() as connection:
        current = connection.execute(
            text(
                "SELECT etag FROM geotag.object_version"
                " WHERE archive_id = :id AND superseded_at IS NULL"
            ),
            {"id": archive},
        ).scalar_one()
    assert current == "old"


def test_of_a_key_listed_twice_in_a_page_the_last_counts(engine: Engine) -> None:
    archive = new_archive(engine)
    run_id = new_run(engine)
    objects = listed(archive, ["a.jpg"], etag="1") + listed(archive, ["a.jpg", "b.jpg"], etag="2")
    (chunk,) = plan(engine, run_id, objects).chunks
    assert len(chunk.object_version_ids) == 2
    assert keys_of(engine, archive, current=False) == ["a.jpg", "b.jpg"]


HOSTILE_KEYS = [
    "\x01\x02\x1f\x7f.jpg",
    "tab\tnew\nline\rreturn.jpg",
    "back\\slash\\N\\.jpg",
    "\\N",
    "\\.",
    "quote'\";--.jpg",
    "{braces},(x).jpg",
    "%s%(x)s:x::y.jpg",
    "\u00e9.jpg",  # composed
    "e\u0301.jpg",  # decomposed: another key
    "漢字/😀.jpg",
    " leading and trailing ",
    "/slash//double/",
    "k" * 1024,
    "漢" * 341,
]


def test_hostile_keys_are_kept_as_they_are(engine: Engine) -> None:
    archive = new_archive(engine)
    (chunk,) = plan(engine, new_run(engine), listed(archive, HOSTILE_KEYS), size=99).chunks
    assert keys_of(engine, archive) == sorted(HOSTILE_KEYS)
    begun = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    assert begun is not None
    assert sorted(obj.key for obj in begun.objects) == sorted(HOSTILE_KEYS)


def test_ten_thousand_objects_in_pages(engine: Engine) -> None:
    archive, run_id = new_archive(engine), new_run(engine)
    keys = [f"{i:05}.jpg" for i in range(10_000)]
    totals = NOTHING
    for start in range(0, len(keys), 1000):
        page = listed(archive, keys[start : start + 1000])
        totals = plan(engine, run_id, page, size=32, before=totals).totals
    planning.close_plan(engine, run_id)
    (progress,) = run_progress(engine, run_id)
    assert (progress.listed, progress.planned, progress.done) == (10_000, 10_000, 0)
    assert not progress.finished
    assert len(list(planning.redeliver(engine, run_id))) == 10 * 32  # 1000 = 31 * 32 + 8


def test_more_chunks_than_the_lock_table_holds_are_redelivered(engine: Engine) -> None:
    """A million objects are 31,250 chunks of 32; PostgreSQL has locks for 10,000."""
    run_id = new_run(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH made AS (INSERT INTO geotag.chunk (run_id)"
                "  SELECT :run FROM generate_series(1, 31250) RETURNING id),"
                " object AS (INSERT INTO geotag.object_version (archive_id, key, etag, size)"
                "  SELECT :archive, n::text, '1', 1 FROM generate_series(1, 31250) n"
                "  RETURNING id)"
                " INSERT INTO geotag.run_object (run_id, object_version_id, chunk_id)"
                " SELECT :run, o.id, c.id"
                " FROM (SELECT id, row_number() OVER () AS n FROM object) o"
                " JOIN (SELECT id, row_number() OVER () AS n FROM made) c USING (n)"
            ),
            {"run": run_id, "archive": new_archive(engine)},
        )
    again = [chunk.chunk_id for chunk in planning.redeliver(engine, run_id)]
    assert len(again) == 31_250
    assert again == sorted(set(again))


def test_unfinished_run_is_joined_and_a_finished_one_is_not(engine: Engine) -> None:
    source = f"test {uuid.uuid4()}"

    def opened(queue: str = "backfill") -> int:
        return planning.open_run(engine, source, queue)

    run_id = opened()
    assert opened() == run_id  # still being planned
    assert opened("interactive") != run_id
    (chunk,) = plan(engine, run_id, listed(new_archive(engine), ["a.jpg"])).chunks
    planning.close_plan(engine, run_id)
    assert opened() == run_id  # a chunk is unfinished
    fail(engine, chunk)
    planning.close_plan(engine, run_id)
    assert opened() != run_id


def test_two_planners_of_one_source_open_one_run(engine: Engine) -> None:
    source = f"test {uuid.uuid4()}"
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: planning.open_run(engine, source, "backfill"), range(8)))
    assert len(ids) == 1


def test_two_planners_of_one_source_count_its_objects_once(engine: Engine) -> None:
    source, archive = f"test {uuid.uuid4()}", new_archive(engine)
    objects = listed(archive, ["a.jpg", "b.jpg"])
    first = planning.open_run(engine, source, "backfill")
    second = planning.open_run(engine, source, "backfill")
    assert first == second
    plan(engine, first, objects)
    plan(engine, second, objects)
    planning.close_plan(engine, first)
    planning.close_plan(engine, second)
    (progress,) = run_progress(engine, first)
    assert (progress.listed, progress.planned) == (2, 2)


def test_planners_of_overlapping_sources_do_not_lock_each_other_out(engine: Engine) -> None:
    archive = new_archive(engine)
    keys = [f"{i:04}.jpg" for i in range(1000)]

    def plan_all(number: int) -> None:
        for etag in ("1", "2", "3"):
            plan(
                engine,
                new_run(engine),
                listed(archive, keys[:: -1 if number % 2 else 1], etag=etag),
            )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(plan_all, range(4)))
    assert keys_of(engine, archive) == keys


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_only_chunks_that_nobody_holds_are_redelivered(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(planning, "_MOST_LOCKS", page)
    run_id, (free, held, finished, last) = planned(engine, ["a", "b", "c", "d"], chunk_size=1)
    fail(engine, finished)
    hold = Hold(engine, held.chunk_id)
    try:
        again, again_last = planning.redeliver(engine, run_id)
    finally:
        hold.let_go()
    assert (again.chunk_id, again.delivery) == (free.chunk_id, 2)
    assert (again_last.chunk_id, again_last.delivery) == (last.chunk_id, 2)
    assert again.object_version_ids == free.object_version_ids
    assert ledger.begin_chunk(engine, free.chunk_id, 1) is None  # the old message is stale
    assert ledger.begin_chunk(engine, held.chunk_id, 1) is not None


def test_split_moves_what_is_not_done_into_chunks_of_one(engine: Engine) -> None:
    run_id, (chunk,) = planned(engine, ["a", "b", "c", "d"])
    done, *rest = chunk.object_version_ids
    ledger.write_results(engine, chunk.chunk_id, [Result(done, "failed", "corrupt", "")])

    planning.split_chunk(engine, chunk.chunk_id)
    singles = planning.unpublished(engine, chunk.chunk_id)

    assert [single.object_version_ids for single in singles] == [(id_,) for id_ in rest]
    planning.mark_published(engine, [singles[0].chunk_id])
    assert planning.unpublished(engine, chunk.chunk_id) == singles[1:]
    emptied = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    assert emptied is not None
    assert emptied.objects == ()
    ledger.finish_chunk(engine, chunk.chunk_id)
    assert ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery) is None
    for single in singles:
        fail(engine, single)
    (progress,) = run_progress(engine, run_id)
    assert progress.finished
    assert (progress.planned, progress.failed) == (4, 4)


Messages = list[tuple[int, int]]


def recorder(sent: Messages) -> Callable[..., None]:
    """Stands in for `publish`: chunk and delivery of each message, which go nowhere."""

    def publish(_app: object, _queue: str, chunk_id: int, delivery: int, _ids: object) -> None:
        sent.append((chunk_id, delivery))

    return publish


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Messages:
    """What the planner published."""
    sent: Messages = []
    monkeypatch.setattr("workers.backfill.publish", recorder(sent))
    return sent


def pages_of(*pages: list[str]) -> list[Found]:
    bucket = f"planner-{uuid.uuid4().hex[:12]}"
    return [
        Found(tuple(ArchiveObject(bucket, key, "1", 1, None) for key in page), 1) for page in pages
    ]


@pytest.fixture
def planner(running: Context) -> Callable[[], Planner]:
    return lambda: Planner(running.engine, running.app, "http://planner.invalid", 2)


def test_planner_publishes_each_chunk_once(
    planner: Callable[[], Planner], published: Messages, engine: Engine
) -> None:
    done = planner().plan(f"test {uuid.uuid4()}", "backfill", pages_of(["a", "b", "c"], ["d"]))
    assert (done.totals, done.published) == (Totals(listed=4, skipped=2), 4)
    assert [delivery for _chunk, delivery in published] == [1, 1, 1]
    (progress,) = run_progress(engine, done.run_id)
    assert (progress.listed, progress.skipped, progress.planned) == (4, 2, 4)
    assert progress.planned_at is not None


@pytest.mark.parametrize("lost_after", range(4))
def test_planner_that_dies_while_publishing_loses_nothing(
    planner: Callable[[], Planner],
    published: Messages,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: int,
) -> None:
    source, pages = f"test {uuid.uuid4()}", pages_of(["a", "b", "c"], ["d", "e"], ["f"])
    record = recorder(published)

    def dies(*arguments: Any) -> None:
        if len(published) == lost_after:
            raise BrokerUnavailable("gone")
        record(*arguments)

    monkeypatch.setattr("workers.backfill.publish", dies)
    with pytest.raises(BrokerUnavailable):
        planner().plan(source, "backfill", pages)
    monkeypatch.setattr("workers.backfill.publish", record)
    planner().plan(source, "backfill", pages)

    (progress,) = [run for run in run_progress(engine) if run.source == source]
    assert (progress.listed, progress.planned) == (6, 6)
    with engine.connect() as connection:
        chunks = connection.execute(
            text("SELECT id, delivery FROM geotag.chunk WHERE run_id = :id"), {"id": progress.id}
        ).all()
    assert len(chunks) == 4
    assert {tuple(chunk) for chunk in chunks} <= set(published)


def test_no_active_release_is_said(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE geotag.release SET active = false"))
    try:
        with pytest.raises(planning.NoActiveRelease):
            new_run(engine)
    finally:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE geotag.release SET active = true WHERE name = 'untrained'")
            )
