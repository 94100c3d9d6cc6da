"""Progress of a long listing is printed, whatever the size of its pages."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from db.runs import Totals
from geotag.runs import run as jobs
from workers.planning.planner import Planned

NOTHING: Any = None


class Planner:
    """A planner with pages of these sizes, each of which takes `seconds`."""

    def __init__(self, pages: Iterable[int], clock: SimpleNamespace, seconds: float) -> None:
        self.pages, self.clock, self.seconds = pages, clock, seconds

    def plan(
        self, _source: object, _queue: str, *, publish: object, report: Callable[[Planned], None]
    ) -> Planned:
        planned = Planned(7, Totals())
        report(planned)
        for size in self.pages:
            self.clock.now += self.seconds
            listed = planned.listed + size
            planned = Planned(7, Totals(listed=listed), planned=listed // 2)
            report(planned)
        return planned


@pytest.fixture
def listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Iterable[int], float], list[str]]:
    """Return the lines printed while pages of these sizes are listed."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("geotag.runs.run.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("geotag.runs.run.run_progress", lambda *_given: [])

    def said(pages: Iterable[int], seconds: float) -> list[str]:
        context: Any = SimpleNamespace(
            engine=None,
            publisher=lambda: SimpleNamespace(top_up=None),
            planner=lambda: Planner(pages, clock, seconds),
        )
        jobs.run(context, NOTHING, wait=False)
        return [line for line in capsys.readouterr().err.splitlines() if "listed" in line]

    return said


def test_pages_of_any_size_are_reported_every_ten_thousand_objects(
    listed: Callable[[Iterable[int], float], list[str]],
) -> None:
    lines = listed([999] * 50, 0.0)
    assert [line.split()[0] for line in lines] == ["10989", "21978", "32967", "43956"]
    assert "10989 listed, 5494 to do" in lines[0]


def test_a_slow_listing_is_reported_by_time(
    listed: Callable[[Iterable[int], float], list[str]],
) -> None:
    lines = listed([1] * 30, 1.0)
    assert [line.split()[0] for line in lines] == ["10", "20", "30"]


def test_a_short_listing_is_silent(
    listed: Callable[[Iterable[int], float], list[str]],
) -> None:
    assert listed([999] * 10, 0.5) == []
