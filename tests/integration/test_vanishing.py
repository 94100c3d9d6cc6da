"""Objects that a listing marks as vanished, and rows whose objects cannot be read."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from db import archives, ledger, planning, runs
from db.archives import ArchiveRecord, RegisteredArchive
from db.ledger import Result
from db.planning import ListedPage, Whole
from db.reads import run_progress
from geotag.context import Context
from tests.conftest import Geotag
from tests.ledger_helpers import listed
from tests.stack_helpers import upload


@pytest.fixture
def engine(running: Context) -> Engine:
    return running.engine


@pytest.fixture
def archive(engine: Engine) -> Iterator[RegisteredArchive]:
    name = f"vanish-{uuid.uuid4().hex[:12]}"
    yield archives.add(engine, ArchiveRecord(name, "http://vanish.invalid", name))
    archives.pause(engine, name)


def night(
    engine: Engine,
    archive: RegisteredArchive,
    keys: range,
    *,
    prefix: str = "",
    most_vanished: float = 0.2,
) -> tuple[int, str | None]:
    """Plan a complete listing; return how many objects vanished, and the warning of its run."""
    run = runs.open_run(engine, f"test {uuid.uuid4()}", "backfill", archive.id)
    names = [f"{prefix}{key}.jpg" for key in keys]
    run = planning.plan_page(engine, run, ListedPage(listed(archive.id, names)), chunk_size=256).run
    whole = Whole(archive.id, prefix, run.created_at)
    vanished = planning.close_plan(engine, run, whole, most_vanished=most_vanished)
    (progress,) = run_progress(engine, run.id)
    assert progress.planned_at is not None
    return vanished, progress.plan_warning


def test_a_listing_that_lacks_most_of_an_archive_takes_nothing_for_vanished(
    engine: Engine, archive: RegisteredArchive
) -> None:
    assert night(engine, archive, range(1000)) == (0, None)
    for left in (range(0), range(799)):
        vanished, warning = night(engine, archive, left)
        assert vanished == 0
        assert warning is not None
        assert warning.startswith("vanish_refused: ")
        assert f"{1000 - len(left)} of the archive's 1000 objects" in warning
    assert archives.counts(engine, archive.id).vanished == 0
    # The listed objects are planned all the same.
    vanished, _warning = night(engine, archive, range(2000, 2100))
    assert vanished == 0
    assert archives.counts(engine, archive.id).objects == 1100


def test_a_fifth_may_vanish_and_all_where_that_is_allowed(
    engine: Engine, archive: RegisteredArchive
) -> None:
    night(engine, archive, range(1000))
    assert night(engine, archive, range(800)) == (200, None)
    assert night(engine, archive, range(0))[0] == 0
    assert night(engine, archive, range(0), most_vanished=1.0) == (800, None)


def test_a_hundred_objects_may_always_vanish(engine: Engine, archive: RegisteredArchive) -> None:
    night(engine, archive, range(100))
    assert night(engine, archive, range(0)) == (100, None)
    night(engine, archive, range(101))
    assert night(engine, archive, range(0))[0] == 0


def test_the_share_is_of_the_archive_and_not_of_the_prefix(
    engine: Engine, archive: RegisteredArchive
) -> None:
    night(engine, archive, range(1000))
    night(engine, archive, range(150), prefix="sub/")
    assert night(engine, archive, range(0), prefix="sub/") == (150, None)


def test_an_empty_listing_is_reported_and_can_be_confirmed(
    geotag: Geotag, running: Context, bucket: str
) -> None:
    upload(running, bucket, {f"{n}.jpg": b"no picture" for n in range(101)})
    assert geotag("run", bucket).returncode == 3
    keys = [f"{n}.jpg" for n in range(101)]
    running.s3._clients.s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]}
    )
    refused = geotag("run", bucket)
    for said in (refused.stderr, geotag("status").stdout):
        shown = " ".join(said.split())
        assert "101 of the archive's 101 objects" in shown
        assert "--allow-vanish" in shown
    assert archives.counts(running.engine, archive_id(running, bucket)).vanished == 0
    allowed = geotag("run", bucket, "--allow-vanish")
    assert "101 objects that were there have vanished" in allowed.stderr
    assert archives.counts(running.engine, archive_id(running, bucket)).vanished == 101


def archive_id(running: Context, name: str) -> int:
    return archives.by_name(running.engine, name).id


def etags(engine: Engine, archive: RegisteredArchive) -> dict[str, tuple[str, bool]]:
    """Return each key's current ETag, and whether it has vanished."""
    query = (
        "SELECT key, etag, vanished_at IS NOT NULL AS gone FROM geotag.object_version"
        " WHERE archive_id = :id AND superseded_at IS NULL"
    )
    with engine.connect() as connection:
        rows = connection.execute(text(query), {"id": archive.id})
        return {row.key: (row.etag, row.gone) for row in rows}


def test_rows_that_cannot_be_looked_at_supersede_nothing(
    engine: Engine, archive: RegisteredArchive
) -> None:
    run = runs.open_run(engine, f"test {uuid.uuid4()}", "backfill", archive.id)
    names = ["done.jpg", "pending.jpg", "gone.jpg"]
    page = planning.plan_page(engine, run, ListedPage(listed(archive.id, names)), chunk_size=1)
    done = page.chunks[0]
    failed = [Result(id_, "failed", "corrupt", "") for id_ in done.object_version_ids]
    ledger.write_results(engine, done.chunk_id, failed)
    with engine.begin() as connection:
        gone = "UPDATE geotag.object_version SET vanished_at = now() WHERE key = 'gone.jpg'"
        connection.execute(text(f"{gone} AND archive_id = :id"), {"id": archive.id})

    manifest = runs.open_run(engine, f"manifest {uuid.uuid4()}", "backfill")
    objects = listed(archive.id, [*names, "new.jpg"], etag="")
    unreadable = {(archive.id, obj.key): "403 AccessDenied" for obj in objects}
    rows = ListedPage(objects, unreadable=unreadable)
    after = planning.plan_page(engine, manifest, rows, chunk_size=8).run
    planning.close_plan(engine, after)

    assert etags(engine, archive) == {
        "done.jpg": ("1", False), "pending.jpg": ("1", False), "gone.jpg": ("1", True),
        "new.jpg": ("", False),
    }  # fmt: skip
    assert after.totals.unreadable == 4
    assert (after.totals.listed, after.totals.done_before, after.totals.changed) == (3, 1, 0)
    (progress,) = run_progress(engine, manifest.id)
    assert progress.planned == 2  # pending.jpg and new.jpg: a worker records their failures
    assert progress.plan_warning is not None
    assert progress.plan_warning.startswith("unreadable: 4 objects")
    assert "403 AccessDenied" in progress.plan_warning
