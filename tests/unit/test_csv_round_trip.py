"""`geotag evaluate --predictions` reads back what `geotag results --format csv` writes."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.reads import ResultRow
from geotag.output import write_csv
from geotag.results.writers import as_record
from triton_models.evaluation.predictions import read_predictions
from triton_models.evaluation.spreadsheet import escape_formula, unescape_formula

ROW = ResultRow(
    archive="album",
    bucket="photos",
    key="a.jpg",
    state="geotagged",
    code=None,
    longitude=-2.5,
    latitude=-48.5,
    confidence=0.25,
    scene="urban",
    release="r1",
    sha256="ab" * 32,
    at=None,
)
characters = st.characters(codec="utf-8", exclude_characters="\0")
formula_like = st.text("'=+-@\t\r\n ,\"a", min_size=1, max_size=6)
keys = st.one_of(formula_like, st.text(characters, min_size=1, max_size=60))


def read_back(names: list[str]) -> list[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "results.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            records = [as_record(replace(ROW, key=name)) for name in names]
            write_csv(records, records[0], file)
        found = read_predictions(path)
    assert all(row.place == (-2.5, -48.5) for row in found.rows.values())
    return list(found.rows)


@given(st.lists(keys, min_size=1, max_size=5, unique=True))
@example(["=a.jpg", "'=a.jpg", "''=a.jpg", "+", "-1.jpg", "@x", "\t", "\r", " ", "'", "'a"])
def test_every_key_comes_back(names: list[str]) -> None:
    assert read_back(names) == names


@given(st.text(characters))
def test_escaping_is_undone_and_hides_every_formula(text: str) -> None:
    escaped = escape_formula(text)
    assert unescape_formula(escaped) == text
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("text", ["'", "'a", "a=b", "", "'' =", "a'=b"])
def test_other_texts_are_not_escaped(text: str) -> None:
    assert escape_formula(text) == text
    assert unescape_formula(text) == text
