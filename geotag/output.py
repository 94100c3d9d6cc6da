"""Consoles, writers of JSON and CSV, and escaping of untrusted text."""

import csv
import json
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from triton_models.evaluation.spreadsheet import escape_formula


class _Tables(Console):
    """A console that raises BrokenPipeError if its reader has closed the pipe (`| head`)."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


console = _Tables()
errors = Console(stderr=True)


def progress_line(line: str) -> None:
    """Print a line of progress to standard error."""
    errors.print(f"[dim]{line}[/dim]", highlight=False)


def write_json(records: Iterable[dict[str, Any]], out: TextIO) -> None:
    """Write a JSON array, one line a record, in constant memory."""
    _write_array("[", records, "]", out)


def write_geojson(features: Iterable[dict[str, Any]], out: TextIO) -> None:
    """Write a GeoJSON feature collection, one line a feature, in constant memory."""
    _write_array('{"type": "FeatureCollection", "features": [', features, "]}", out)


def _write_array(
    opening: str, records: Iterable[dict[str, Any]], closing: str, out: TextIO
) -> None:
    out.write(opening)
    separator = "\n"
    for record in records:
        out.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n"
    out.write(f"\n{closing}\n")


def write_csv(records: Iterable[dict[str, Any]], names: Iterable[str], out: TextIO) -> None:
    """Write CSV with a header (RFC 4180); texts that look like formulas are escaped."""
    writer = csv.DictWriter(out, list(names))
    writer.writeheader()
    writer.writerows({name: no_formula(v) for name, v in record.items()} for record in records)


def no_formula(value: Any) -> Any:
    """Return a value that no spreadsheet evaluates as a formula. Only texts are escaped."""
    return escape_formula(value) if isinstance(value, str) else value


def plain(text: str) -> Text:
    """Return untrusted text without markup, with control characters escaped as `\\x1b`."""
    return Text("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))
