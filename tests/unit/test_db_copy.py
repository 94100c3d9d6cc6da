"""Rows in COPY's text format: distinct values have distinct encodings."""

from datetime import UTC, datetime

import pytest

from db.copy import _field


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, r"\N"),
        (r"\N", r"\\N"),
        ("", ""),
        ("a\tb\nc\rd\\e", "a\\tb\\nc\\rd\\\\e"),
        ("nul\x00", "nul\ufffd"),
        ("half\udce9", "half?"),
        ("\U0001f600", "\U0001f600"),
        (True, "t"),
        (b"\x00\xff", r"\\x00ff"),
        (1.5, "1.5"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (("a", 'b"c', "d\\e"), '{"a","b\\\\"c","d\\\\\\\\e"}'),
        ((0.25, 1.0), "{0.25,1.0}"),
        ((), "{}"),
    ],
)
def test_value_in_copy_text_format(value: object, expected: str) -> None:
    assert _field(value) == expected  # type: ignore[arg-type]
