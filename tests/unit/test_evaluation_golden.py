"""Two small tables of predictions whose every figure is computed by hand here.

On a sphere of 6371.0088 km one degree of a great circle is 6371.0088 · π / 180 = 111.19508 km. The
equator and every meridian are great circles, so the distances below are angles times that.
"""

import json
from collections.abc import Callable
from math import exp, log
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from triton_models.evaluation.document import Document, evaluate
from triton_models.evaluation.matching import Matched, known_truths, match
from triton_models.evaluation.predictions import read_predictions
from triton_models.evaluation.truth import read_truths

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMA = Path(__file__).parents[2] / "docs" / "evaluation.schema.json"

DEGREE_KM = 111.19508


def theirs() -> Matched:
    predictions = [read_predictions(GOLDEN / "evaluation_theirs.csv")]
    return match(known_truths(None, predictions), predictions)


def ours() -> Matched:
    truths = read_truths(GOLDEN / "evaluation_truth.csv")
    predictions = [read_predictions(GOLDEN / "evaluation_ours.csv")]
    return match(known_truths(truths, predictions), predictions)


def reasons(found: Document) -> dict[str, list[int | None]]:
    """The lines named for each reason."""
    return {g["reason"]: [row["line"] for row in g["sample"]] for g in found["reasons"]}


def test_as_others_publish() -> None:
    """Angles 0, 0.1, 1, 5 and 90 degrees: 0, 11.12, 111.2, 556.0 and 10,007.6 km."""
    document = evaluate(theirs())
    assert document["n"] == 5
    assert document["accuracy"] == {"1": 20, "25": 40, "200": 60, "750": 80, "2500": 80}
    assert document["median_km"] == pytest.approx(1 * DEGREE_KM, rel=1e-6)
    assert document["mean_km"] == pytest.approx(96.1 * DEGREE_KM / 5, rel=1e-6)
    points = [5000 * exp(-angle * DEGREE_KM / 1492.7) for angle in (0, 0.1, 1, 5, 90)]
    assert document["geoguessr"] == pytest.approx(sum(points) / 5, rel=1e-6)
    # 10° E 0° N lies off Gabon, 20° E 10° N in Chad, 30° E 0° N in Uganda, 100° E 0° N by Sumatra.
    continents = {name: g["n"] for name, g in document["by_continent"].items()}
    assert continents == {"Africa": 4, "Asia": 1}
    assert document["by_continent"]["Africa"]["accuracy"]["25"] == 50
    assert document["calibration"] is None
    assert document["coverage"] == [
        {"threshold": None, "coverage": 100, "accuracy": document["accuracy"]}
    ]
    assert [row["id"] for row in document["worst"]] == [f"{k}.jpg" for k in "edcba"]


def test_lines_that_are_no_predictions_are_named() -> None:
    document = evaluate(theirs())
    assert reasons(document["left_out"]) == {
        "blank_line": [5, 10, 11],
        "repeated_header": [6],
        "summary_row": [9],
    }
    # d.jpg states 5.6 km where it is 556 km: the row counts, with the distance that it has.
    assert reasons(document["noted"]) == {"distance_differs": [7]}


def test_our_results_against_a_truth_file() -> None:
    """Over the antimeridian 1°, over the pole 2°, nearby 0.005°; one abstained and one failed."""
    document = evaluate(ours())
    assert (document["n"], document["answered"]) == (5, 3)
    assert document["answers"] == {
        "answered": 3,
        "abstained": 1,
        "failed": 1,
        "invalid": 0,
        "missing": 0,
    }
    assert document["accuracy"] == {"1": 20, "25": 20, "200": 40, "750": 60, "2500": 60}
    assert document["median_km"] == pytest.approx(1 * DEGREE_KM, rel=1e-6)
    assert document["mean_km"] == pytest.approx(3.005 * DEGREE_KM / 3, rel=1e-6)
    points = [5000 * exp(-angle * DEGREE_KM / 1492.7) for angle in (0.005, 1, 2)]
    assert document["geoguessr"] == pytest.approx(sum(points) / 5, rel=1e-6)
    scenes = {name: (s["n"], s["accuracy"]["200"]) for name, s in document["by_scene"].items()}
    assert scenes == {"indoor": (1, 0), "natural": (2, 50), "urban": (2, 50)}
    assert document["scene_source"] == "truth"


def test_confidence_of_our_results() -> None:
    """Stated 0.6 (a hit within 200 km), 0.6 (222 km: a miss) and 0.9 (a hit)."""
    document = evaluate(ours())
    calibration = document["calibration"]
    assert calibration["n"] == 3
    assert calibration["brier"] == pytest.approx((0.4**2 + 0.6**2 + 0.1**2) / 3)
    assert calibration["brier_constant"] == pytest.approx(2 / 3 * 1 / 3)
    assert calibration["nll"] == pytest.approx(-(log(0.6) + log(0.4) + log(0.9)) / 3)
    assert calibration["nll_constant"] == pytest.approx(-(2 * log(2 / 3) + log(1 / 3)) / 3)
    # Two answers at 0.6 of which one is right, one at 0.9 that is.
    assert calibration["ece"] == pytest.approx(2 / 3 * 0.1 + 1 / 3 * 0.1)
    curve = [(p["threshold"], p["coverage"], p["accuracy"]["200"]) for p in document["coverage"]]
    assert curve == [(0.9, 20, 100), (0.6, 60, pytest.approx(200 / 3))]


def test_truths_that_are_not_used_are_named() -> None:
    left_out = evaluate(ours())["left_out"]
    assert reasons(left_out) == {
        "swapped": [8],
        "out_of_range": [9],
        "missing_coordinates": [10],
        "null_island": [11],
        "duplicate_id": [12, 14],
        "contradictory_id": [13],
        "no_prediction": [7],
        "no_truth": [7],
    }
    assert left_out["total"] == 9


@pytest.mark.parametrize("matched", [theirs, ours])
def test_json_keeps_its_schema(matched: Callable[[], Matched]) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    document = json.loads(json.dumps(evaluate(matched()), allow_nan=False))
    Draft202012Validator(schema).validate(document)


def test_two_systems_keep_the_schema_too() -> None:
    first = read_predictions(GOLDEN / "evaluation_theirs.csv", "first")
    second = read_predictions(GOLDEN / "evaluation_theirs.csv", "second")
    document = evaluate(match(known_truths(None, [first, second]), [first, second]))
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(
        json.loads(json.dumps(document, allow_nan=False))
    )
    (pair,) = document["comparisons"]
    assert (pair["first"], pair["second"]) == ("first", "second")
    assert all(c["difference"] == 0 and c["mcnemar_p"] == 1 for c in pair["accuracy"].values())
