"""`geotag evaluate`: what it takes, refuses and writes; the services are played by functions."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from db.reads import ResultRow
from geotag.evaluation.evaluate import run_evaluation
from workers.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
THEIRS, TRUTH = GOLDEN / "evaluation_theirs.csv", GOLDEN / "evaluation_truth.csv"


def row(key: str, longitude: float, latitude: float, confidence: float | None) -> ResultRow:
    return ResultRow(
        archive="photos",
        bucket="b",
        key=key,
        state="geotagged",
        code=None,
        longitude=longitude,
        latitude=latitude,
        confidence=confidence,
        scene="urban",
        release="r",
        sha256=None,
        at=None,
    )


def results(_asked: object) -> Iterable[ResultRow]:
    return iter([row("photos/near.jpg", 30.0, 0.0, 0.5), row("photos/failed.jpg", 0, 0, None)])


def never(_asked: object) -> Iterable[ResultRow]:
    raise AssertionError("nobody asked for this")


def run(**given: Any) -> None:
    services = {"results_for_folder": never, "results_for_run": never}
    run_evaluation(**(services | given))


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_file_with_its_own_truth(capsys: pytest.CaptureFixture[str]) -> None:
    run(predictions=[THEIRS], form="json")
    found = document(capsys)
    assert found["accuracy"]["25"] == 40
    assert [s["name"] for s in found["systems"]] == ["evaluation_theirs"]
    assert found["benchmark"] is None


def test_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    run(run=7, truth=TRUTH, form="json", results_for_run=results)
    found = document(capsys)
    assert (found["name"], found["n"], found["accuracy"]["1"]) == ("run 7", 2, 50)


def test_a_folder_leaves_out_truths_without_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "near.jpg").touch()
    run(images=photos, truth=TRUTH, form="json", results_for_folder=results)
    found = document(capsys)
    assert (found["name"], found["n"], found["accuracy"]["1"]) == ("photos", 1, 100)
    counts = {g["reason"]: g["count"] for g in found["left_out"]["reasons"]}
    assert counts["no_picture"] == 5


def test_systems_of_the_same_file_name_keep_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / THEIRS.name
    other.write_text(THEIRS.read_text().replace("d.jpg,0,0,30,35", "d.jpg,0,0,30,30"))
    run(predictions=[THEIRS, other], form="json")
    found = document(capsys)
    assert [s["name"] for s in found["systems"]] == [str(THEIRS), str(other)]
    assert found["comparisons"][0]["accuracy"]["200"]["difference"] == -20


def test_the_table_shows_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    run(predictions=[THEIRS], benchmark="im2gps")
    text = capsys.readouterr().out
    for shown in ("Im2GPS, 5 of 237", "111.2", "2,137", "TransLocator", "86.7", "summary_row"):
        assert shown in text


def test_output_goes_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    run(predictions=[THEIRS], form="html", output=page)
    assert capsys.readouterr().out == ""
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to evaluate"),
        ({"run": 1}, "give --truth"),
        ({"images": GOLDEN}, "give --truth"),
        ({"images": GOLDEN / "gone", "truth": TRUTH}, "no such folder"),
        ({"predictions": [GOLDEN / "evaluation_ours.csv"]}, "give --truth"),
        ({"predictions": [THEIRS], "form": "pdf"}, "no format pdf"),
        ({"predictions": [THEIRS], "benchmark": "x"}, "no benchmark x"),
        ({"predictions": [GOLDEN / "gone.csv"]}, "No such file"),
        ({"predictions": [THEIRS], "truth": TRUTH}, "no prediction has the id of a truth"),
        ({"predictions": [THEIRS], "output": GOLDEN}, "Is a directory"),
    ],
)
def test_what_cannot_be_evaluated_is_explained(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(**given)


def test_nothing_is_geotagged_before_the_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        run(images=tmp_path, truth=tmp_path / "gone.csv", results_for_folder=never)
