"""Tables: a row is one line, and no line is wider than the terminal."""

import re
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from geotag import tables
from geotag.output import plain
from geotag.results import table as results_table
from geotag.results.table import print_results
from geotag.runs import status
from geotag.tables import (
    Column,
    Shorten,
    key_column,
    lines,
    number_column,
    print_table,
    prose_column,
    shortened,
)
from tests.unit.table_cases import CASES, Case
from tests.unit.test_output import GOOD, PENDING, near

COLUMNS = (
    number_column("run"),
    key_column("source"),
    Column("state"),
    key_column("where"),
    prose_column("message"),
)
LONG = "s3://photos/located/724e74d1b2/" + "x" * 300 + "/IMG_0001.jpg"
WIDE = "s3://写真/" + "東京都" * 60 + "/桜.jpg"
texts = st.text(st.characters(codec="utf-8"), max_size=150) | st.sampled_from((LONG, WIDE, ""))
rows = st.lists(st.tuples(st.just("12"), texts, st.just("archive paused"), texts, texts))


def printed(terminal: bool, width: int, *, wide: bool = False) -> list[str]:
    out = StringIO()
    to = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    row = ("1", LONG, "working", WIDE, "cannot be read " * 20)
    print_table(COLUMNS, [row, ("2", "a", "failed", "b", "")], wide=wide, to=to)
    return out.getvalue().splitlines()


@given(rows, st.sampled_from((80, 100, 200)))
def test_every_row_is_a_line_that_fits(found: list[tuple[str, ...]], width: int) -> None:
    table = lines(COLUMNS, found, width)
    assert len(table) == len(found) + 1
    for line in table:
        assert "\n" not in line.plain
        assert cell_len(line.plain) <= width
    for line in table[1:]:
        assert line.plain.lstrip().startswith("12 ")
        assert "archive paused" in line.plain


@pytest.mark.parametrize("width", [80, 100, 200])
def test_long_keys_keep_both_ends_on_a_terminal(width: int) -> None:
    heading, first, second = printed(True, width)
    assert max(map(cell_len, (heading, first, second))) <= width
    assert "s3://" in first
    assert "0001.jpg" in first
    assert "桜.jpg" in first
    assert first.count("…") == 3
    assert second.split() == ["2", "a", "failed", "b"]


@pytest.mark.parametrize(("terminal", "wide"), [(False, False), (True, True), (False, True)])
def test_keys_are_whole_with_wide_and_in_a_pipe(terminal: bool, wide: bool) -> None:
    table = printed(terminal, 80, wide=wide)
    assert len(table) == 3
    assert LONG in table[1]
    assert WIDE in table[1]
    assert "…" not in table[1]


@given(texts, st.integers(1, 60), st.sampled_from((Shorten.MIDDLE, Shorten.END)))
def test_a_shortened_text_is_its_ends(written: str, width: int, how: Shorten) -> None:
    text = plain(written).plain
    short = shortened(plain(written), width, how).plain
    assert cell_len(short) <= width
    if short != text:
        head, _ellipsis, tail = short.rpartition("…") if how is Shorten.END else _split(text, short)
        assert text.startswith(head)
        assert text.endswith(tail)


def _split(text: str, short: str) -> tuple[str, str, str]:
    """Split at the ellipsis that is ours, where the text has some of its own."""
    for k, character in enumerate(short):
        if character == "…" and text.startswith(short[:k]) and text.endswith(short[k + 1 :]):
            return short[:k], "…", short[k + 1 :]
    raise AssertionError(short)


@pytest.mark.parametrize("width", [80, 100, 110, 132, 200])
def test_results_fit_the_terminal(width: int) -> None:
    out = StringIO()
    terminal = Console(file=out, width=width, force_terminal=True, color_system=None)
    longest = replace(GOOD, key=f"album/{'x' * 80}/1.jpg", scene="natural", confidence=1.0)
    killed = replace(PENDING, state="quarantined", code="worker_killed")
    refused = replace(PENDING, state="failed", code="unsupported_format")
    print_results([longest, killed, refused], near, to=terminal)
    table = out.getvalue().splitlines()
    assert len(table) == 4  # a row is a line
    assert max(map(cell_len, table)) <= width
    assert [line.split()[-1] for line in table[1:]] == ["geotagged", "quarantined", "failed"]
    assert "/1.jpg" in table[1]
    assert "none: worker_killed" in table[2]
    assert "none: unsupported_format" in table[3]


def test_columns_keep_their_order_and_gap() -> None:
    table = lines((number_column("n"), Column("name")), [("1", "a"), ("10", "b")], None)
    assert [line.plain for line in table] == [" n  name", " 1  a", "10  b"]
    assert all(a != b for a, b in pairwise(table))


PROJECT = Path(__file__).parents[2]


def table_of(case: Case, width: int, *, terminal: bool = True, wide: bool = False) -> list[str]:
    """Return the lines of a command's table; what it prints beside the table is left out."""
    out = StringIO()
    to = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        for module in (tables, status, results_table):
            patch.setattr(module, "console", to)
        patch.setattr(status, "waits_for", lambda _run: "")  # a sentence below the table
        case.print(patch, wide)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", CASES)
def test_the_table_of_every_command_has_one_line_a_row(name: str, width: int) -> None:
    case = CASES[name]
    whole = table_of(case, 10_000, terminal=False)
    printed = table_of(case, width)
    assert max(map(cell_len, printed)) <= width
    if not case.blocks:
        assert len(printed) == len(whole)
    words = {word for line in whole for word in line.split()}
    cut = {word for line in printed for word in line.split() if "…" not in word} - words
    assert not cut


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_every_command_is_whole_with_wide_and_in_a_pipe(name: str) -> None:
    case = CASES[name]
    ways = [table_of(case, 80, terminal=False)]
    if case.has_wide:
        ways += [table_of(case, 80, wide=True), table_of(case, 80, terminal=False, wide=True)]
    for printed in ways:
        assert "…" not in "".join(printed)
        for text in case.full:
            assert any(text in line for line in printed)


def test_every_module_that_prints_a_table_is_among_the_cases() -> None:
    printing = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in (PROJECT / "geotag").rglob("*.py")
        if re.search(r"\bprint_(table|facts)\b", path.read_text())
    }
    assert printing - {"geotag.tables"} == {case.module for case in CASES.values()}


def test_no_command_has_a_table_of_its_own_making() -> None:
    for path in (PROJECT / "geotag").rglob("*.py"):
        assert "rich.table" not in path.read_text(), path
