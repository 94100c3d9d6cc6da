"""The HTML page: complete, alone, and safe with any file name."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_models.evaluation import charts
from triton_models.evaluation.document import evaluate
from triton_models.evaluation.matching import Matched, match
from triton_models.evaluation.predictions import predictions_of
from triton_models.evaluation.published_results import benchmark_named
from triton_models.evaluation.report import MOST_LINES, fixed, html_report, place
from triton_models.evaluation.truth import Record, truths_of

HOSTILE = "<script>alert('x')</script>&\".jpg"


def matched(n: int, names: tuple[str, ...] = ("one", "two"), *, stated: bool = True) -> Matched:
    rng = np.random.default_rng(2)
    ids = [HOSTILE, *(f"{k:04}.jpg" for k in range(1, n))]
    truths = truths_of(
        "truth.csv",
        [
            Record(k, name, str(rng.uniform(-179, 179)), str(rng.uniform(-80, 80)), str(k % 3))
            for k, name in enumerate(ids, 2)
        ],
    )
    systems = [
        predictions_of(
            [
                {
                    "id": name,
                    "longitude": float(rng.uniform(-180, 180)),
                    "latitude": float(rng.uniform(-90, 90)),
                    "confidence": float(rng.random()) if stated else None,
                }
                for name in ids
            ],
            system,
            system,
        )
        for system in names
    ]
    return match(truths, systems)


class Page(HTMLParser):
    """Which tags are open, whether they close in order, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    these = matched(40)
    document = evaluate(these, benchmark_named("Im2GPS"))
    text = html_report(document, these)
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "image", "use"}
    loads = {"src", "href", "xlink:href", "srcset", "action", "data"}
    assert {value for name, value in page.attributes if name in loads} <= {"#left-out"}
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_page_says_what_the_document_says() -> None:
    these = matched(40)
    document = evaluate(these, benchmark_named("Im2GPS"))
    text = html_report(document, these)
    for system in document["systems"]:
        assert len(system["worst"]) == 10
        for row in system["worst"]:
            assert fixed(row["error_km"]) in text
            assert place(row["predicted"]) in text
    assert "of the 237 of the benchmark" in text
    assert "+ scene = TransLocator" in text
    assert "Reliability" in text


def test_names_of_files_are_text_not_markup() -> None:
    these = matched(12, ("<b>one</b>",))
    text = html_report(evaluate(these), these)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<b>one" not in text


def test_without_confidence_or_answers_the_page_says_so() -> None:
    these = matched(5, ("silent",), stated=False)
    assert "states no confidence" in html_report(evaluate(these), these)
    truths = truths_of("t", [Record(2, "a", "1", "1")])
    none = match(truths, [predictions_of([{"id": "a", "state": "abstained"}], "none", "none")])
    document = evaluate(none)
    assert (document["median_km"], document["worst"], document["coverage"]) == (None, [], [])
    assert "0.0 %" in html_report(document, none)


def test_a_large_map_is_a_sample_and_says_so() -> None:
    these = matched(MOST_LINES + 50, ("one",))
    text = html_report(evaluate(these, resamples=2), these)
    assert f"{MOST_LINES} of {MOST_LINES + 50} answers are drawn" in text
    assert text.count('<circle class="e') == MOST_LINES


@pytest.mark.parametrize(
    ("start", "end", "pieces"),
    [
        ((0, 0), (90, 0), 1),
        ((170, 10), (-170, 10), 2),
        ((0, 89), (180, 89), 1),
        ((5, 5), (5, 5), 1),
    ],
)
def test_an_arc_is_drawn_twice_where_it_crosses_the_antimeridian(
    start: tuple[float, float], end: tuple[float, float], pieces: int
) -> None:
    path = charts.arc(start, end)
    assert path.count("M") == pieces
    numbers = [float(n) for n in re.findall(r"[-\d.]+", path)]
    for at, point in ((numbers[:2], start), (numbers[-2:], end)):
        x, y = charts.project(*point)
        assert at == pytest.approx([float(x), float(y)], abs=0.06)


longitudes, latitudes = st.floats(-180, 180), st.floats(-90, 90)


@given(longitudes, latitudes, longitudes, latitudes)
def test_no_piece_of_an_arc_crosses_the_map(a: float, b: float, c: float, d: float) -> None:
    for piece in charts.arc((a, b), (c, d)).split("M")[1:]:
        x = [float(point.split()[0]) for point in piece.split("L")]
        assert max(np.abs(np.diff(x)), default=0) <= charts.MAP_WIDTH / 2 + 0.1


def test_classes_of_errors_are_the_radii() -> None:
    errors = np.array([0, 1, 1.1, 25, 200, 750, 2500, 2501])
    assert charts.error_class(errors).tolist() == [0, 0, 1, 1, 2, 3, 4, 5]


def test_the_distribution_ends_at_the_share_that_is_answered() -> None:
    points = charts.distribution(np.array([0.01, 1.0, 20_000, np.nan]))
    assert points[-1] == (1.0, 0.75)
    assert [y for _x, y in points] == [0, 0.25, 0.5, 0.75, 0.75]
    assert points[1][0] == 0  # nearer than 100 m is at the axis's beginning
    assert charts.distribution(np.array([np.nan])) == [(0, 0), (1, 0)]


def test_the_template_is_shipped() -> None:
    folder = Path(charts.__file__).parents[1] / "templates"
    assert (folder / "evaluation.html.j2").is_file()
