"""The planner's bookkeeping, with a stand-in for the ledger that records its calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from db.archives import RegisteredArchive
from db.objects import ArchiveObject
from db.planning import ListedPage, PlannedChunk, PlannedPage, Whole
from db.runs import Cursor, Run, RunStopped, Totals
from workers.errors import ArchiveUnavailable
from workers.planning.planner import Planned, Planner
from workers.planning.sources import CursorRefused, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARCHIVE = RegisteredArchive("a", "", "b", id=3)


class Ledger:
    """Records calls of `db.runs` and `db.planning` in order; each page becomes one chunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self.cursor: Cursor | None = None
        self.limit: int | None = None
        self.stop_after: int | None = None
        for name in ("plan_page", "close_plan"):
            monkeypatch.setattr(f"db.planning.{name}", getattr(self, name))
        for name in ("open_run", "plan_lease", "start_over", "may_go_on"):
            monkeypatch.setattr(f"db.runs.{name}", getattr(self, name))
        monkeypatch.setattr("db.runs.room", lambda _engine, _run: self.limit)

    def open_run(self, _engine: object, source: str, queue: str, archive_id: int | None) -> Run:
        self.calls.append(("open", source, queue, archive_id))
        return Run(5, source, queue, archive_id, NOW, 0, self.cursor, Totals())

    @contextmanager
    def plan_lease(self, _engine: object, run_id: int) -> Iterator[None]:
        self.calls.append(("lease", run_id))
        yield
        self.calls.append(("let go", run_id))

    def plan_page(
        self, _engine: object, run: Run, page: ListedPage, *, most: int | None, **_given: Any
    ) -> PlannedPage:
        keys = [obj.key for obj in page.objects][:most]
        self.calls.append(("page", keys))
        totals = replace(run.totals, listed=run.totals.listed + len(page.objects))
        after = replace(run, pages=run.pages + 1, cursor=page.cursor, totals=totals)
        return PlannedPage(after, (PlannedChunk(run.pages, 1, tuple(range(len(keys)))),))

    def close_plan(
        self, _engine: object, _run: Run, whole: Whole | None = None, **_given: Any
    ) -> int:
        self.calls.append(("close", whole))
        return 2 if whole else 0

    def start_over(self, _engine: object, run: Run) -> Run:
        self.calls.append("start over")
        return replace(run, cursor=None, totals=Totals())

    def may_go_on(self, _engine: object, _run: int) -> None:
        if self.stop_after is not None:
            if self.stop_after == 0:
                raise RunStopped
            self.stop_after -= 1


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(monkeypatch)


ENGINE: Any = None


def planner() -> Planner:
    return Planner(ENGINE, ENGINE, 32)


def source(*pages: list[str], breaks: Exception | None = None) -> Source:
    """Return a source of pages of keys; the cursor is the page number. It ends with `breaks`."""

    def listed(cursor: Cursor | None) -> Iterator[ListedPage]:
        if cursor == {"stale": True}:
            raise CursorRefused
        for number in range(cursor["page"] if cursor else 0, len(pages)):
            objects = [ArchiveObject("b", key, "1", 1, archive_id=3) for key in pages[number]]
            yield ListedPage(objects, 0, {"page": number + 1})
        if breaks:
            raise breaks

    return Source("s3://b/", ARCHIVE, listed, "")


def test_pages_are_published_as_they_are_planned(ledger: Ledger) -> None:
    done = planner().plan(
        source(["x", "y"], ["z"]), "backfill", publish=lambda: ledger.calls.append("publish")
    )
    assert ledger.calls == [
        ("open", "s3://b/", "backfill", 3),
        ("lease", 5),
        ("page", ["x", "y"]),
        "publish",
        ("page", ["z"]),
        "publish",
        ("close", Whole(3, "", NOW)),
        "publish",
        ("let go", 5),
    ]
    assert done == Planned(5, Totals(listed=3), planned=3, vanished=2)


def test_an_interrupted_listing_leaves_the_run_open(ledger: Ledger) -> None:
    with pytest.raises(ArchiveUnavailable):
        planner().plan(source(["x"], breaks=ArchiveUnavailable("away")), "backfill")
    assert ("page", ["x"]) in ledger.calls
    assert not [call for call in ledger.calls if call[0] == "close"]


def test_planning_goes_on_from_the_cursor(ledger: Ledger) -> None:
    ledger.cursor = {"page": 1}
    planner().plan(source(["x"], ["y"]), "backfill")
    assert [call for call in ledger.calls if call[0] == "page"] == [("page", ["y"])]


def test_a_refused_cursor_restarts_the_listing(ledger: Ledger) -> None:
    ledger.cursor = {"stale": True}
    done = planner().plan(source(["x"], ["y"]), "backfill")
    assert "start over" in ledger.calls
    assert done.totals.listed == 2


def test_planning_stops_at_the_limit_of_the_run(ledger: Ledger) -> None:
    ledger.limit = 3
    done = planner().plan(source(["a", "b"], ["c", "d"], ["e"]), "backfill")
    pages = [call for call in ledger.calls if call[0] == "page"]
    assert pages == [("page", ["a", "b"]), ("page", ["c"])]
    # The listing is incomplete, so no object has vanished.
    assert ("close", None) in ledger.calls
    assert (done.planned, done.vanished) == (3, 0)


def test_a_stopped_run_keeps_its_cursor(ledger: Ledger) -> None:
    ledger.stop_after = 1
    with pytest.raises(RunStopped):
        planner().plan(source(["a"], ["b"]), "backfill")
    assert [call for call in ledger.calls if call[0] == "page"] == [("page", ["a"])]
    assert not [call for call in ledger.calls if call[0] == "close"]


def test_progress_is_reported_after_each_page(ledger: Ledger) -> None:
    seen: list[int] = []
    planner().plan(
        source(["x"], ["y", "z"]), "backfill", report=lambda planned: seen.append(planned.listed)
    )
    assert seen == [0, 1, 3]
