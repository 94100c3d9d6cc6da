"""Display of a watched run: a bar on a terminal, lines in a log, JSON for scripts."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from geotag.formats import Format
from geotag.runs import display as run_display
from geotag.runs.display import Lines, Terminal, View, display
from geotag.runs.status import HELD, print_status
from tests.unit.test_watch import DONE

WORKING = replace(
    DONE,
    geotagged=2,
    failed=1,
    finished=False,
    state="working",
    chunks_queued=3,
    chunks_waiting=9,
)


def test_pace_shows_rate_time_left_and_queue() -> None:
    view = View(WORKING, rate=0.5)
    assert view.seconds_left == 14
    assert view.pace() == "0.5/s, 0:00:14 left, 3 chunks queued, 9 waiting"


def test_pace_is_empty_before_anything_moved() -> None:
    view = View(replace(WORKING, chunks_queued=0, chunks_waiting=0))
    assert view.seconds_left is None
    assert view.pace() == ""


def test_time_left_is_unknown_while_objects_are_still_being_found() -> None:
    view = View(replace(WORKING, planned_at=None, listed=500, state="planning"), rate=2.0)
    assert view.seconds_left is None
    assert view.pace().startswith("2.0/s, 500 found so far")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"state": "finished"}, ""),
        ({"state": "cancelled"}, ""),
        ({"state": "paused"}, "geotag resume 7"),
        ({"state": "archive_paused", "archive": "photos"}, "geotag archive resume photos"),
        ({"state": "archive_removed"}, "geotag cancel 7"),
        ({"state": "outside_window"}, "goes on by itself"),
        ({"state": "planning_fails", "plan_error": "no bucket {x}"}, "no bucket {x}"),
    ],
)
def test_blocked_run_shows_its_reason_and_remedy(changes: dict[str, Any], said: str) -> None:
    waits = View(replace(WORKING, **changes)).waits()
    assert said in waits
    assert bool(said) == bool(waits)


def test_unavailable_services_come_first() -> None:
    view = View(replace(WORKING, state="paused"), unavailable=("triton", "s3"))
    assert view.waits() == "triton and s3 unavailable, work waits: geotag doctor"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("geotag.runs.display.time.monotonic", lambda: now.seconds)
    return now


def test_lines_come_now_and_then_and_at_the_end(clock: SimpleNamespace) -> None:
    seen: list[int] = []
    lines = Lines(lambda view: seen.append(view.progress.geotagged), 10.0)
    for number in range(25):
        lines.show(View(replace(WORKING, geotagged=number)))
        clock.seconds += 1
    assert seen == [10, 20]
    lines.show(View(replace(WORKING, geotagged=99, finished=True)))
    assert seen[-1] == 99


def test_json_is_an_object_a_line(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with display(Format.JSON) as shown:
        clock.seconds += 2
        shown.show(View(WORKING, 0.5, (("corrupt", 1),), ("triton",)))
        shown.show(View(DONE))
    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["done"], first["pending"], first["rate"], first["seconds_left"]) == (
        3,
        7,
        0.5,
        14,
    )
    assert (first["codes"], first["away"]) == ({"corrupt": 1}, ["triton"])
    assert (last["finished"], last["seconds_left"]) == (True, None)


@pytest.mark.parametrize("width", [40, 200])
def test_terminal_of_any_width_shows_everything(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    console = Console(width=width, height=40, file=io.StringIO(), force_terminal=True, record=True)
    monkeypatch.setattr(run_display, "errors", console)
    with Terminal() as shown:
        failing = replace(WORKING, state="planning_fails", plan_error="[bold]x\x1b[2J")
        shown.show(View(failing, 0.5, (("corrupt", 1),)))
        console.print(shown._live.get_renderable())
    words = console.export_text().replace("\n", " ")
    for part in ("run 7", "3/10", "1 corrupt", "[bold]x\\x1b"):
        assert part in words
    assert "\x1b" not in words


@pytest.mark.parametrize("width", [60, 80, 200])
def test_status_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=True)
    runs = [
        replace(WORKING, state="paused", source="s3://a-long-bucket-name/and/a/long/prefix/"),
        replace(DONE, id=6, state="finished"),
    ]
    monkeypatch.setattr("geotag.runs.status.console", console)
    monkeypatch.setattr("geotag.tables.console", console)
    monkeypatch.setattr("geotag.runs.status.run_progress", lambda _engine, _run_id: runs)
    monkeypatch.setattr("geotag.runs.status.totals", lambda _engine: {"pending": 7})
    monkeypatch.setattr("geotag.runs.status.failing", lambda _engine: [])
    print_status(SimpleNamespace(engine=None), None, Format.TABLE)  # type: ignore[arg-type]
    lines = console.export_text().splitlines()
    assert all(len(line) <= width for line in lines if not line.startswith("run 7: "))
    assert "run 7: paused: geotag resume 7 goes on with it" in lines
    assert "all objects: 7 pending" in lines
    if width >= 80:
        assert any("finished" in line for line in lines)


def test_blocked_states_are_explained() -> None:
    for state in HELD:
        assert View(replace(WORKING, state=state, planned_at=datetime.now(UTC))).waits()
