"""Plan listed objects as chunks on the real PostGIS: none is lost or planned twice."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from db import archives, control, dispatch, ledger, planning, runs
from db.archives import ArchiveRecord, RegisteredArchive
from db.engine import sql
from db.ledger import Result
from db.objects import ArchiveObject
from db.planning import ListedPage, PlannedPage, Whole
from db.reads import run_progress
from db.runs import Cursor, PlannedElsewhere, RunStopped, Totals
from geotag.context import Context
from tests.ledger_helpers import listed, new_archive, new_run, planned, someone_waits
from tests.stack_helpers import until
from workers.planning.planner import Planner
from workers.planning.sources import DONE, Source
from workers.s3.objects import s3_url


@pytest.fixture
def engine(running: Context) -> Engine:
    return running.engine


def plan(engine: Engine, run: runs.Run, objects: list[ArchiveObject], size: int = 8) -> PlannedPage:
    return planning.plan_page(engine, run, ListedPage(objects), chunk_size=size)


def keys_of(engine: Engine, archive: int, *, current: bool = True) -> list[str]:
    query = "SELECT key FROM geotag.object_version WHERE archive_id = :id"
    if current:
        query += " AND superseded_at IS NULL"
    with engine.connect() as connection:
        return sorted(connection.execute(text(query), {"id": archive}).scalars())


def fail(engine: Engine, chunk: planning.PlannedChunk) -> None:
    """Record a failure for each of a chunk's objects."""
    failed = [Result(id_, "failed", "corrupt", "") for id_ in chunk.object_version_ids]
    ledger.write_results(engine, chunk.chunk_id, failed)


def test_page_is_cut_into_chunks(engine: Engine) -> None:
    _run_id, chunks = planned(engine, [f"{i}.jpg" for i in range(10)], chunk_size=4)
    assert [len(chunk.object_version_ids) for chunk in chunks] == [4, 4, 2]
    assert len({id_ for chunk in chunks for id_ in chunk.object_version_ids}) == 10


def test_planning_again_plans_nothing_twice(engine: Engine) -> None:
    run, archive = new_run(engine), new_archive(engine)
    objects = listed(archive, ["a.jpg", "b.jpg"])
    first = plan(engine, run, objects)
    again = plan(engine, first.run, objects)
    assert [len(page.chunks) for page in (first, again)] == [1, 0]
    assert again.run.totals.listed == 2


def test_objects_with_an_outcome_are_not_planned_again(engine: Engine) -> None:
    archive = new_archive(engine)
    objects = listed(archive, ["a.jpg", "b.jpg"])
    (chunk,) = plan(engine, new_run(engine), objects).chunks
    fail(engine, chunk)

    run = new_run(engine)
    page = plan(engine, run, [*objects, *listed(archive, ["c.jpg"])])

    assert page.run.totals == Totals(listed=3, done_before=2, failed_before=2, appeared=1)
    assert [len(chunk.object_version_ids) for chunk in page.chunks] == [1]
    (progress,) = run_progress(engine, run.id)
    assert (progress.listed, progress.done_before, progress.failed_before) == (3, 2, 2)


def test_changed_object_supersedes_its_former_version(engine: Engine) -> None:
    archive = new_archive(engine)
    (old,) = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="old")).chunks
    changed = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="new"))
    (new,) = changed.chunks
    assert (changed.run.totals.appeared, changed.run.totals.changed) == (0, 1)
    assert old.object_version_ids != new.object_version_ids
    assert keys_of(engine, archive) == ["a.jpg"]
    assert keys_of(engine, archive, current=False) == ["a.jpg", "a.jpg"]

    # The former bytes are the former version again, and its outcome counts.
    fail(engine, old)
    back = plan(engine, new_run(engine), listed(archive, ["a.jpg"], etag="old"))
    assert (back.chunks, back.run.totals.done_before) == ((), 1)
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
    objects = listed(archive, ["a.jpg"], etag="1") + listed(archive, ["a.jpg", "b.jpg"], etag="2")
    (chunk,) = plan(engine, new_run(engine), objects).chunks
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
    assert len(chunk.object_version_ids) == len(HOSTILE_KEYS)
    begun = ledger.begin_chunk(engine, chunk.chunk_id, chunk.delivery)
    assert begun is not None
    assert sorted(obj.key for obj in begun.objects) == sorted(HOSTILE_KEYS)


def test_ten_thousand_objects_in_pages(engine: Engine) -> None:
    archive, run = new_archive(engine), new_run(engine)
    keys = [f"{i:05}.jpg" for i in range(10_000)]
    for start in range(0, len(keys), 1000):
        run = plan(engine, run, listed(archive, keys[start : start + 1000]), size=32).run
    planning.close_plan(engine, run)
    (progress,) = run_progress(engine, run.id)
    assert (progress.listed, progress.planned, progress.done) == (10_000, 10_000, 0)
    assert not progress.finished
    with engine.connect() as connection:
        chunks = connection.execute(
            text("SELECT count(*) FROM geotag.chunk WHERE run_id = :id"), {"id": run.id}
        ).scalar_one()
    assert chunks == 10 * 32  # 1000 = 31 * 32 + 8


def test_unfinished_run_is_joined_and_a_finished_one_is_not(engine: Engine) -> None:
    source = f"test {uuid.uuid4()}"

    def opened(queue: str = "backfill") -> runs.Run:
        return runs.open_run(engine, source, queue)

    run = opened()
    assert opened() == run  # planning has not ended
    assert opened("interactive").id != run.id
    page = plan(engine, run, listed(new_archive(engine), ["a.jpg"]))
    assert opened() == page.run  # and continues at its cursor
    planning.close_plan(engine, page.run)
    again = opened()  # a chunk is unfinished, so the run is listed again from the start
    assert (again.id, again.cursor, again.totals) == (run.id, None, Totals())
    fail(engine, page.chunks[0])
    planning.close_plan(engine, again)
    assert opened().id != run.id


def test_cancelled_run_is_never_reopened(engine: Engine) -> None:
    source = f"test {uuid.uuid4()}"
    run = runs.open_run(engine, source, "backfill")
    cancelled = plan(engine, run, listed(new_archive(engine), ["a.jpg"])).run
    with engine.begin() as connection:  # its chunk is unfinished: a worker processes it
        connection.execute(
            text("UPDATE geotag.run SET cancelled_at = now(), planned_at = now() WHERE id = :id"),
            {"id": run.id},
        )
    with pytest.raises(RunStopped):
        runs.start_over(engine, cancelled)
    again = runs.open_run(engine, source, "backfill")
    assert (again.id != run.id, again.pages) == (True, 0)


def test_two_planners_of_one_source_open_one_run(engine: Engine) -> None:
    source = f"test {uuid.uuid4()}"

    def opened(_number: int) -> int:
        return runs.open_run(engine, source, "backfill").id

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(opened, range(8)))) == 1


def test_of_two_planners_of_one_run_only_one_records_pages(engine: Engine) -> None:
    run, archive = new_run(engine), new_archive(engine)
    with runs.plan_lease(engine, run.id):
        with pytest.raises(PlannedElsewhere), runs.plan_lease(engine, run.id):
            pass
        ahead = plan(engine, run, listed(archive, ["a.jpg"])).run
    # A planner that lost its lease sees that the run has advanced, and records nothing.
    for behind in (
        lambda: plan(engine, run, listed(archive, ["b.jpg"])),
        lambda: planning.close_plan(engine, run),
        lambda: runs.start_over(engine, run),
    ):
        with pytest.raises(PlannedElsewhere):
            behind()
    assert keys_of(engine, archive) == ["a.jpg"]
    planning.close_plan(engine, ahead)


def test_unchanged_object_is_not_locked_when_it_is_listed_again(engine: Engine) -> None:
    """A worker that writes to an object and a planner that lists it do not block each other."""
    archive = new_archive(engine)
    plan(engine, new_run(engine), listed(archive, ["a.jpg", "b.jpg"]))
    again = new_run(engine)
    with ThreadPoolExecutor(1) as threads, engine.begin() as worker:
        worker.execute(
            text("UPDATE geotag.object_version SET version_id = 'v' WHERE archive_id = :id"),
            {"id": archive},
        )
        page = threads.submit(plan, engine, again, listed(archive, ["a.jpg", "b.jpg"]))
        totals = page.result(60).run.totals
    assert (totals.listed, totals.appeared, totals.changed) == (2, 0, 0)


def close_whole(engine: Engine, run: runs.Run, archive: int) -> object:
    return planning.close_plan(engine, run, Whole(archive, "", run.created_at))


def list_one(engine: Engine, run: runs.Run, archive: int) -> object:
    return plan(engine, run, listed(archive, ["b.jpg"]))


def leave_one_out(engine: Engine, run: runs.Run, _archive: int) -> object:
    return planning.plan_page(engine, run, ListedPage([], left_out=["a.jpg"]), chunk_size=8)


@pytest.mark.parametrize("step", [close_whole, list_one, leave_one_out])
def test_planners_of_one_archive_wait_for_its_lock(
    engine: Engine, step: Callable[[Engine, runs.Run, int], object]
) -> None:
    archive = new_archive(engine)
    run = runs.open_run(engine, f"test {uuid.uuid4()}", "backfill", archive)
    other = "SELECT pg_advisory_xact_lock(hashtextextended('geotag.archive:' || :id, 0))"
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            connection.execute(text(other), {"id": str(archive)})
            ours = threads.submit(step, engine, run, archive)
            until(lambda: ours.done() or someone_waits(connection))
            assert not ours.done()
        ours.result(60)


def test_object_written_again_after_a_listing_missed_it_has_not_vanished(engine: Engine) -> None:
    archive = new_archive(engine)
    plan(engine, new_run(engine), dated(archive, "a.jpg", 1))
    missed = plan(engine, new_run(engine), []).run
    put_back = plan(engine, new_run(engine), dated(archive, "a.jpg", 2)).run
    assert (put_back.totals.appeared, put_back.totals.changed) == (0, 0)
    # Listed again unchanged, or without its time of writing: nothing is new.
    for day in (1, 2, None):
        plan(engine, new_run(engine), dated(archive, "a.jpg", day))
    query = "SELECT last_modified FROM geotag.object_version WHERE archive_id = :id"
    with engine.connect() as connection:
        found = connection.execute(text(query), {"id": archive}).scalar_one()
    assert found == datetime(2026, 1, 2, tzinfo=UTC)
    assert planning.close_plan(engine, missed, Whole(archive, "", missed.created_at)) == 0
    assert pending(engine, archive) == (1, 0)


def dated(archive: int, key: str, day: int | None) -> list[ArchiveObject]:
    """List one object, written on a day."""
    when = datetime(2026, 1, day, tzinfo=UTC) if day else None
    return [replace(obj, last_modified=when) for obj in listed(archive, [key])]


def test_run_whose_planner_still_publishes_is_not_reset(engine: Engine) -> None:
    """If the run were reset while its planner publishes, no process would plan it."""
    source, archive = f"test {uuid.uuid4()}", new_archive(engine)
    run = plan(engine, runs.open_run(engine, source, "backfill"), listed(archive, ["a.jpg"])).run
    with runs.plan_lease(engine, run.id):
        planning.close_plan(engine, run)
        with pytest.raises(PlannedElsewhere):
            runs.open_run(engine, source, "backfill")
        (progress,) = run_progress(engine, run.id)
        assert progress.planned_at is not None

    def again() -> runs.Run | None:
        with contextlib.suppress(PlannedElsewhere):  # until the session of the lease has ended
            return runs.open_run(engine, source, "backfill")
        return None

    assert until(again).id == run.id


def test_cursor_is_recorded_with_its_page(engine: Engine) -> None:
    run, archive = new_run(engine), new_archive(engine)
    page = ListedPage(listed(archive, ["a.jpg"]), 2, {"token": "x'\u20ac"})
    planning.plan_page(engine, run, page, chunk_size=8)
    found = runs.run_to_plan(engine, run.id)
    assert (found.cursor, found.pages) == ({"token": "x'\u20ac"}, 1)
    assert found.totals == Totals(listed=1, skipped=2, appeared=1)
    assert runs.start_over(engine, found).cursor is None


def night(engine: Engine, archive: int, *keys: str, prefix: str = "") -> tuple[int, Totals]:
    """Plan a complete listing; return how many objects vanished, and its totals."""
    run = plan(engine, new_run(engine), listed(archive, keys)).run
    return planning.close_plan(engine, run, Whole(archive, prefix, run.created_at)), run.totals


def pending(engine: Engine, archive: int) -> tuple[int, int]:
    """Return how many of an archive's objects are pending, and how many have vanished."""
    counted = archives.counts(engine, archive)
    return counted.pending, counted.vanished


def test_objects_missing_from_a_complete_listing_vanish_until_listed_again(engine: Engine) -> None:
    archive = new_archive(engine)
    assert night(engine, archive, "a.jpg", "b.jpg", "p/c.jpg")[0] == 0
    assert pending(engine, archive) == (3, 0)
    assert night(engine, archive, "a.jpg", prefix="p/")[0] == 1  # below the prefix only
    assert night(engine, archive, "a.jpg")[0] == 1
    assert pending(engine, archive) == (1, 2)
    vanished, totals = night(engine, archive, "a.jpg", "b.jpg")
    assert (vanished, totals.appeared, totals.changed) == (0, 0, 0)
    assert pending(engine, archive) == (2, 1)
    run = plan(engine, new_run(engine), listed(archive, ["p/c.jpg"], etag="2")).run
    assert (run.totals.appeared, run.totals.changed) == (0, 1)
    assert pending(engine, archive) == (3, 0)


def test_objects_that_a_listing_leaves_out_have_not_vanished(engine: Engine) -> None:
    archive = new_archive(engine)
    plan(engine, new_run(engine), listed(archive, ["scan.tif", "gone.tif"]))  # listed by a manifest
    run = runs.open_run(engine, f"test {uuid.uuid4()}", "backfill", archive)
    page = ListedPage(listed(archive, ["a.jpg"]), 2, None, ["scan.tif", "new.tif"])
    done = planning.plan_page(engine, run, page, chunk_size=8)
    assert done.run.totals == Totals(listed=1, skipped=2, appeared=1)
    assert sum(len(chunk.object_version_ids) for chunk in done.chunks) == 1
    assert planning.close_plan(engine, done.run, Whole(archive, "", run.created_at)) == 1
    assert keys_of(engine, archive) == ["a.jpg", "gone.tif", "scan.tif"]
    assert pending(engine, archive) == (2, 1)


def test_objects_that_appear_during_a_listing_have_not_vanished(engine: Engine) -> None:
    archive = new_archive(engine)
    slow = new_run(engine)
    night(engine, archive, "new.jpg")
    slow = plan(engine, slow, listed(archive, ["a.jpg"])).run
    assert planning.close_plan(engine, slow, Whole(archive, "", slow.created_at)) == 0


def test_old_inventory_does_not_undo_later_changes(engine: Engine) -> None:
    archive = new_archive(engine)
    night(engine, archive, "changed.jpg", "gone.jpg", "same.jpg")
    with engine.connect() as connection:
        written = connection.execute(text("SELECT now()")).scalar_one()
    run = plan(engine, new_run(engine), listed(archive, ["changed.jpg"], etag="2")).run
    run = plan(engine, run, listed(archive, ["same.jpg"])).run
    assert planning.close_plan(engine, run, Whole(archive, "", run.created_at)) == 1
    page = planning.plan_page(
        engine,
        new_run(engine),
        ListedPage(listed(archive, ["changed.jpg", "gone.jpg", "same.jpg", "new.jpg"])),
        chunk_size=8,
        as_of=written,
    )
    assert (page.run.totals.listed, page.run.totals.appeared) == (2, 1)
    assert archives.counts(engine, archive).vanished == 1


def test_chunks_hold_objects_of_one_archive(engine: Engine) -> None:
    first, second = new_archive(engine), new_archive(engine)
    pairs = zip(listed(first, "abc"), listed(second, "abc"), strict=True)
    mixed = [obj for pair in pairs for obj in pair]
    chunks = plan(engine, new_run(engine), mixed, size=2).chunks
    assert [len(chunk.object_version_ids) for chunk in chunks] == [2, 1, 2, 1]
    with engine.connect() as connection:
        wrong = connection.execute(
            text(
                "SELECT count(*) FROM geotag.run_object ro"
                " JOIN geotag.object_version v ON v.id = ro.object_version_id"
                " JOIN geotag.chunk c ON c.id = ro.chunk_id"
                " WHERE c.id = ANY(:ids) AND c.archive_id <> v.archive_id"
            ),
            {"ids": [chunk.chunk_id for chunk in chunks]},
        ).scalar_one()
    assert wrong == 0


def test_new_release_makes_everything_pending_and_touches_no_old_row(engine: Engine) -> None:
    archive = new_archive(engine)
    (chunk,) = plan(engine, new_run(engine), listed(archive, ["a.jpg", "b.jpg"])).chunks
    fail(engine, chunk)
    assert pending(engine, archive) == (0, 0)
    rows = text("SELECT o::text FROM geotag.outcome o ORDER BY 1")
    # The transaction is rolled back, because no Triton serves the new release.
    with engine.connect() as connection:
        before = connection.execute(rows).all()
        connection.execute(text("UPDATE geotag.release SET active = false"))
        connection.execute(
            text(
                "INSERT INTO geotag.release (name, digest, calibrated, coarse_partition_id,"
                " middle_partition_id, fine_partition_id, manifest, active)"
                " SELECT 'newer', 'newer', false, coarse_partition_id, middle_partition_id,"
                " fine_partition_id, '{}', true FROM geotag.release LIMIT 1"
            )
        )
        counted = connection.execute(sql("archive_counts"), {"archive_id": archive}).one()
        assert (counted.objects, counted.pending) == (2, 2)
        assert connection.execute(rows).all() == before
        connection.rollback()


def test_state_of_a_run_over_several_archives_names_the_blocked_one(
    engine: Engine,
) -> None:
    first, second = new_archive(engine), new_archive(engine)
    names = {a.id: a.name for a in archives.registered(engine)}
    page = plan(engine, new_run(engine), [*listed(first, ["a"]), *listed(second, ["b"])])

    def state() -> tuple[str, str | None]:
        (progress,) = run_progress(engine, page.run.id)
        return progress.state, progress.archive

    planning.close_plan(engine, page.run)
    assert state() == ("archive_paused", names[first])
    archives.remove(engine, names[first])
    assert state() == ("archive_paused", names[second])
    archives.resume(engine, names[second])
    assert state() == ("working", None)
    chunk = next(chunk for chunk in page.chunks if archive_of_chunk(engine, chunk) == second)
    fail(engine, chunk)
    assert state() == ("archive_removed", names[first])
    control.cancel_run(engine, page.run.id, dispatch.clock(engine))
    assert state()[0] == "cancelled"


def archive_of_chunk(engine: Engine, chunk: planning.PlannedChunk) -> int:
    query = text("SELECT archive_id FROM geotag.chunk WHERE id = :id")
    with engine.connect() as connection:
        found: int = connection.execute(query, {"id": chunk.chunk_id}).scalar_one()
    return found


def test_split_moves_unfinished_objects_into_chunks_of_one(engine: Engine) -> None:
    run_id, (chunk,) = planned(engine, ["a", "b", "c", "d"])
    done, *rest = chunk.object_version_ids
    ledger.write_results(engine, chunk.chunk_id, [Result(done, "failed", "corrupt", "")])

    planning.split_chunk(engine, chunk.chunk_id)
    with engine.connect() as connection:
        query = text(
            "SELECT chunk_id, array_agg(object_version_id) AS ids FROM geotag.run_object"
            " WHERE run_id = :run AND chunk_id <> :chunk GROUP BY chunk_id ORDER BY chunk_id"
        )
        rows = connection.execute(query, {"run": run_id, "chunk": chunk.chunk_id}).all()
    singles = [planning.PlannedChunk(row.chunk_id, 1, tuple(row.ids)) for row in rows]

    assert [single.object_version_ids for single in singles] == [(id_,) for id_ in rest]
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


def source_of(archive: RegisteredArchive, *pages: list[str]) -> Source:
    """Return a source of pages of keys; the cursor is the number of the next page."""

    def listing(cursor: Cursor | None) -> Iterator[ListedPage]:
        for number in range(cursor["page"] if cursor else 0, len(pages)):
            yield ListedPage(listed(archive.id, pages[number]), 1, {"page": number + 1})

    return Source(f"test {archive.name}", archive, listing, "")


@pytest.fixture
def archive(engine: Engine) -> Iterator[RegisteredArchive]:
    """An archive that no worker can reach; it is paused when the test ends."""
    name = f"planner-{uuid.uuid4().hex[:12]}"
    yield archives.add(engine, ArchiveRecord(name, "http://planner.invalid", name))
    archives.pause(engine, name)


@pytest.fixture
def planner(running: Context) -> Planner:
    return Planner(running.engine, running.s3_services, 2)


class Killed(BaseException):
    """Ends a planner between two pages."""


@pytest.mark.parametrize("dies_after", range(4))
def test_planning_of_a_dead_planner_resumes_without_listing_twice(
    planner: Planner, archive: RegisteredArchive, engine: Engine, dies_after: int
) -> None:
    pages = 0

    def dies() -> None:
        nonlocal pages
        pages += 1
        if pages > dies_after:
            raise Killed

    source = source_of(archive, ["a", "b", "c"], ["d", "e"], ["f"])
    with contextlib.suppress(Killed):
        planner.plan(source, "backfill", publish=dies)
    done = planner.plan(source, "backfill")

    if dies_after < 3:
        assert done.totals == Totals(listed=6, skipped=3, appeared=6)
    (progress,) = [run for run in run_progress(engine) if run.source == source.name]
    assert (progress.listed, progress.skipped, progress.planned) == (6, 3, 6)
    assert progress.planned_at is not None
    with engine.connect() as connection:
        left = text("SELECT count(*) FROM geotag.run_seen WHERE run_id = :id")
        assert connection.execute(left, {"id": progress.id}).scalar_one() == 0


def test_late_planner_marks_nothing_as_vanished(
    planner: Planner, archive: RegisteredArchive, engine: Engine
) -> None:
    """It resumes after the last page and lists nothing, which must not mark all as vanished."""
    run = runs.open_run(engine, s3_url(archive.bucket, ""), "backfill", archive.id)
    page = ListedPage(listed(archive.id, ["a", "b"]), cursor=DONE)
    ended = planning.plan_page(engine, run, page, chunk_size=8).run
    assert planning.close_plan(engine, ended, Whole(archive.id, "", run.created_at)) == 0
    with pytest.raises(PlannedElsewhere):
        planner.resume(run.id)
    assert pending(engine, archive.id) == (2, 0)


@pytest.mark.parametrize("behind", [planning.close_plan, runs.start_over])
def test_cancelled_run_is_not_planned_further(
    engine: Engine, behind: Callable[[Engine, runs.Run], object]
) -> None:
    run, archive = new_run(engine), new_archive(engine)
    control.cancel_run(engine, run.id, dispatch.clock(engine))
    with pytest.raises(RunStopped):
        plan(engine, run, listed(archive, ["a.jpg"]))
    with pytest.raises(RunStopped):
        behind(engine, run)
    assert keys_of(engine, archive) == []


def test_paused_archive_is_not_planned(
    planner: Planner, archive: RegisteredArchive, engine: Engine
) -> None:
    source = source_of(archive, ["a"], ["b"])
    with pytest.raises(RunStopped):
        planner.plan(source, "backfill", publish=lambda: archives.pause(engine, archive.name))
    with pytest.raises(RunStopped):
        planner.plan(source, "backfill")
    assert keys_of(engine, archive.id) == ["a"]
    archives.resume(engine, archive.name)
    assert planner.plan(source, "backfill").totals.listed == 2


def test_run_without_an_active_release_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE geotag.release SET active = false"))
    try:
        with pytest.raises(runs.NoActiveRelease):
            new_run(engine)
    finally:
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE geotag.release SET active = true WHERE name = 'untrained'")
            )
