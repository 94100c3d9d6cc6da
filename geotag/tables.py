"""Tables for people: one line a row, no wider than the terminal.

A text that does not fit is shortened with `…`: a key or URL in the middle, prose at its end.
Output that is not a terminal, and `--wide`, show every text in full.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from geotag.output import console, plain

STATE_STYLES = {
    "geotagged": "green",
    "abstained": "yellow",
    "pending": "dim",
    "failed": "red",
    "quarantined": "magenta",
}
"""Styles of an object's state, `pending` included."""

GAP = 2
"""Spaces between two columns."""


class Shorten(Enum):
    """How a text is shortened in a narrow terminal."""

    NEVER = "never"
    MIDDLE = "middle"
    END = "end"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: its heading.
        shorten: how its texts are shortened; NEVER means only if nothing else is left.
        right: whether it is aligned to the right.
        least: cells that it keeps when shortened, if the terminal has room.
    """

    name: str
    shorten: Shorten = Shorten.NEVER
    right: bool = False
    least: int = 12


def key_column(name: str) -> Column:
    """A column of keys or URLs: both ends of a long one stay readable."""
    return Column(name, Shorten.MIDDLE)


def prose_column(name: str) -> Column:
    """A column of sentences: the beginning of a long one stays readable."""
    return Column(name, Shorten.END)


def number_column(name: str) -> Column:
    """A column of numbers."""
    return Column(name, right=True)


Cell = Text | str
Row = Sequence[Cell]


class Fact(NamedTuple):
    """A name and a value. The value is prose, shortened at its end, unless it is said otherwise."""

    name: str
    value: Cell
    shorten: Shorten = Shorten.END


def width_of(terminal: Console, wide: bool = False) -> int | None:
    """Return the cells in a line of the terminal; None if nothing is to be shortened."""
    return None if wide or not terminal.is_terminal else terminal.width


def print_table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    *,
    wide: bool = False,
    title: str = "",
    header: bool = True,
    labels: int = 0,
    to: Console | None = None,
) -> None:
    """Print a table to standard output, or to another console.

    Args:
        columns: in their order.
        rows: a cell for each column; a string is somebody else's text, without markup.
        wide: show every text in full, however wide the table becomes.
        title: a line above it.
        header: whether to print the headings.
        labels: columns that the table repeats on the left of each block if its other columns do
            not fit beside each other; 0 means one block.
        to: another console than that of standard output.
    """
    out = to or console
    width = width_of(out, wide)
    if title:
        named = shortened(plain(title), width, Shorten.END) if width else plain(title)
        named.stylize("italic")
        _print_lines([named], out)
    if not labels:
        _print_lines(lines(columns, rows, width, header=header), out)
        return
    table = [_texts(row) for row in rows]
    for block in _blocks(columns, table, width, labels):
        of_block = [[row[k] for k in block] for row in table]
        if block[labels] > labels:  # continued: without the rows that have nothing here
            of_block = [row for row in of_block if any(cell.plain for cell in row[labels:])]
        _print_lines(lines([columns[k] for k in block], of_block, width, header=header), out)


def print_facts(facts: Iterable[Fact], *, wide: bool = False, to: Console | None = None) -> None:
    """Print a name and a value in each line, without headings; the arguments are print_table's."""
    out = to or console
    width = width_of(out, wide)
    given = list(facts)
    rows = [_texts((fact.name, fact.value)) for fact in given]
    if width is not None:
        names = max((cell_len(name.plain) for name, _value in rows), default=0)
        room = max(width - names - GAP, width // 2)
        for fact, row in zip(given, rows, strict=True):
            row[1] = shortened(row[1], room, fact.shorten)
    columns = (prose_column("name"), prose_column("value"))
    _print_lines(lines(columns, rows, width, header=False), out)


def _print_lines(printed: Iterable[Text], out: Console) -> None:
    for line in printed:
        # Not wrapped and not cropped: the line fits, or is to be whole.
        out.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)


def _texts(row: Row) -> list[Text]:
    return [cell if isinstance(cell, Text) else plain(cell) for cell in row]


def _blocks(
    columns: Sequence[Column], table: Sequence[Sequence[Text]], width: int | None, labels: int
) -> list[list[int]]:
    """Return the columns of each block: the labels, and as many of the others as fit."""
    first = list(range(labels))
    others = range(labels, len(columns))
    if width is None:
        return [[*first, *others]]
    widths = _widths(columns, table)
    needed = [
        min(w, c.least) if c.shorten is not Shorten.NEVER else w
        for w, c in zip(widths, columns, strict=True)
    ]
    used = sum(needed[k] + GAP for k in first) - GAP
    blocks: list[list[int]] = []
    room = 0
    for k in others:
        room -= needed[k] + GAP
        if room < 0:
            blocks.append(list(first))
            room = width - used - needed[k] - GAP
        blocks[-1].append(k)
    return blocks


def _widths(columns: Sequence[Column], table: Sequence[Sequence[Text]]) -> list[int]:
    """Return the cells that each column needs, its heading included."""
    return [
        max([cell_len(column.name), *(cell_len(row[k].plain) for row in table)])
        for k, column in enumerate(columns)
    ]


def lines(
    columns: Sequence[Column], rows: Iterable[Row], width: int | None, *, header: bool = True
) -> list[Text]:
    """Return the lines of a table, the headings first.

    Args:
        columns: in their order.
        rows: a cell for each column.
        width: cells in a line at most; None is no limit.
        header: whether the headings are among them.
    """
    table = [_texts(row) for row in rows]
    if header:
        table.insert(0, [Text(column.name, "bold") for column in columns])
    widths = [
        max((cell_len(row[k].plain) for row in table), default=0) for k in range(len(columns))
    ]
    if width is not None:
        widths = _fitted(columns, widths, width)
    return [_line(columns, row, widths) for row in table]


def _fitted(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Return widths that fit: the widest column that may be shortened gives way first."""
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - width
    elastic = [k for k, column in enumerate(columns) if column.shorten is not Shorten.NEVER]
    kept = [column.least for column in columns]
    for candidates, least in ((elastic, kept), (elastic, None), (range(len(columns)), None)):
        while excess > 0:
            larger = [k for k in candidates if fitted[k] > (least[k] if least else 1)]
            if not larger:
                break
            widest = max(larger, key=lambda k: fitted[k])
            fitted[widest] -= 1
            excess -= 1
    return fitted


def _line(columns: Sequence[Column], row: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for k, (column, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
        text = shortened(cell, width, column.shorten)
        fill = " " * (width - cell_len(text.plain))
        last = k == len(columns) - 1
        line.append_text(Text(fill) + text if column.right else text)
        if not last:
            line.append(" " * GAP if column.right else fill + " " * GAP)
    line.rstrip()
    return line


def shortened(text: Text, width: int, how: Shorten) -> Text:
    """Return a text of at most so many cells, with `…` where something is left out.

    A wide character (CJK) has two cells, and is never cut in half.
    """
    if cell_len(text.plain) <= width:
        return text
    room = width - 1  # for the ellipsis
    if room <= 0:
        return Text("…"[:width], text.style)
    tail = room - room // 3 if how is Shorten.MIDDLE else 0  # the end of a key tells most
    head = _prefix(text.plain, room - tail)
    rest = _prefix(text.plain[::-1], room - cell_len(text.plain[:head])) if tail else 0
    end = len(text.plain) - rest
    return Text.assemble(text[:head], "…", text[end:] if rest else "")


def _prefix(text: str, width: int) -> int:
    """Return how many characters at the beginning of a text fit into so many cells."""
    used = 0
    for count, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return count
    return len(text)
