"""The planner's own bookkeeping; the ledger and the broker are stand-ins that record."""

from collections.abc import Iterator
from typing import Any

import pytest

from db.planning import ListedObject, PlannedChunk, PlannedPage, Totals
from workers.archive import ArchiveObject
from workers.backfill import Planned, Planner
from workers.sources import Found


class Ledger:
    """What `db.planning` was asked, in order; each page becomes one chunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.again: tuple[PlannedChunk, ...] = ()
        for name in (
            "open_run",
            "redeliver",
            "plan_page",
            "close_plan",
            "mark_published",
            "register_archive",
        ):
            monkeypatch.setattr(f"db.planning.{name}", getattr(self, name))
        monkeypatch.setattr("workers.backfill.publish", self.publish)

    def open_run(self, _engine: object, source: str, queue: str) -> int:
        self.calls.append(("open", source, queue))
        return 5

    def redeliver(self, _engine: object, run_id: int) -> Iterator[PlannedChunk]:
        self.calls.append(("redeliver", run_id))
        yield from self.again

    def register_archive(self, _engine: object, endpoint: str, bucket: str) -> int:
        self.calls.append(("archive", endpoint, bucket))
        return len(bucket)

    def plan_page(
        self,
        _engine: object,
        run_id: int,
        objects: list[ListedObject],
        *,
        skipped: int,
        chunk_size: int,
        before: Totals,
    ) -> PlannedPage:
        self.calls.append(("page", run_id, [o.key for o in objects], skipped, chunk_size))
        ids = tuple(range(len(objects)))
        totals = Totals(before.listed + len(ids), before.skipped + skipped, before.done_before + 1)
        return PlannedPage((PlannedChunk(len(self.calls), 1, ids),) if ids else (), totals)

    def publish(self, _app: object, queue: str, chunk_id: int, delivery: int, ids: Any) -> None:
        self.calls.append(("publish", queue, delivery, tuple(ids)))

    def mark_published(self, _engine: object, _ids: object) -> None:
        self.calls.append(("mark",))

    def close_plan(self, _engine: object, run_id: int) -> None:
        self.calls.append(("close", run_id))


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(monkeypatch)


ENGINE: Any = None
PLANNER_ARGUMENTS: tuple[Any, Any, str, int] = (ENGINE, None, "http://s3", 32)


def found(*keys: str, bucket: str = "b", skipped: int = 0) -> Found:
    return Found(tuple(ArchiveObject(bucket, key, "1", 1, None) for key in keys), skipped)


def test_a_page_is_recorded_before_it_is_published(ledger: Ledger) -> None:
    done = Planner(*PLANNER_ARGUMENTS).plan("s3://b", "backfill", [found("x", "y", skipped=2)])
    assert ledger.calls == [
        ("open", "s3://b", "backfill"),
        ("redeliver", 5),
        ("archive", "http://s3", "b"),
        ("page", 5, ["x", "y"], 2, 32),
        ("publish", "backfill", 1, (0, 1)),
        ("mark",),
        ("close", 5),
    ]
    assert done == Planned(5, Totals(listed=2, skipped=2, done_before=1), published=2)


def test_what_was_lost_before_is_published_first(ledger: Ledger) -> None:
    ledger.again = (PlannedChunk(9, 4, (1, 2, 3)),)
    done = Planner(*PLANNER_ARGUMENTS).plan("s3://b", "backfill", [])
    assert ("publish", "backfill", 4, (1, 2, 3)) in ledger.calls
    assert done.published == 3


def test_each_bucket_is_registered_once(ledger: Ledger) -> None:
    pages = [found("x"), found("y"), found("z", bucket="other"), found("w")]
    Planner(*PLANNER_ARGUMENTS).plan("manifest", "backfill", pages)
    registered = [call[2] for call in ledger.calls if call[0] == "archive"]
    assert registered == ["b", "other"]


def test_a_listing_that_breaks_off_leaves_the_run_open(ledger: Ledger) -> None:
    def pages() -> Iterator[Found]:
        yield found("x")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Planner(*PLANNER_ARGUMENTS).plan("s3://b", "backfill", pages())
    assert ("publish", "backfill", 1, (0,)) in ledger.calls
    assert ("close", 5) not in ledger.calls


def test_progress_is_reported_after_each_page(ledger: Ledger) -> None:
    seen: list[int] = []
    Planner(*PLANNER_ARGUMENTS).plan(
        "s3://b",
        "backfill",
        [found("x"), found("y", "z")],
        report=lambda planned: seen.append(planned.listed),
    )
    assert seen == [0, 1, 3]
