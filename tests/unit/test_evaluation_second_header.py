"""A table ends where another header begins, as in the published prediction files."""

import csv
from pathlib import Path

import pytest

from triton_models.evaluation.document import evaluate
from triton_models.evaluation.matching import known_truths, match
from triton_models.evaluation.predictions import AnswerState, read_predictions
from triton_models.evaluation.published_results import recognised
from triton_models.evaluation.tables import read_table
from triton_models.evaluation.truth import read_truths

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation_published.csv"
SHARED = Path(__file__).parents[3] / "shared" / "benchmarks"
COLUMNS = "img_id,gt_lat,predicted_lat,gt_long,predicted_long,great_circle_distance"
FIGURES = (
    "street acc (1km),city acc (25km),region acc (200km),country acc (750km),"
    "continent acc (2500km)\n0.168776,0.43038,0.518987,0.666667,0.801688\n"
)


def said(path: Path) -> list[tuple[str, int | None]]:
    return [(remark.reason, remark.line) for remark in read_table(path).remarks]


def written(folder: Path, text: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text(text)
    return path


def test_figures_after_the_predictions_are_no_photograph() -> None:
    predictions = read_predictions(GOLDEN)
    matched = match(known_truths(None, [predictions]), [predictions])
    document = evaluate(matched)
    assert document["n"] == 3
    assert document["accuracy"]["25"] == pytest.approx(200 / 3)
    assert said(GOLDEN) == [("other_table", 5), ("other_table", 6)]
    (left_out,) = document["left_out"]["reasons"]
    assert (left_out["reason"], left_out["count"]) == ("other_table", 2)


@pytest.mark.parametrize(
    ("file", "photographs"), [("im2gps_places365.csv", 237), ("im2gps3k_places365.csv", 2997)]
)
def test_a_file_of_the_published_shape_has_the_photographs_of_its_benchmark(
    tmp_path: Path, file: str, photographs: int
) -> None:
    if not SHARED.is_dir():
        pytest.skip("the benchmarks' truth is not here")
    truths = read_truths(SHARED / file)
    path = tmp_path / "published.csv"
    with path.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS.split(","))
        for k, name in enumerate(truths.ids):
            longitude, latitude = truths.place(k)
            table.writerow((name, latitude, latitude, longitude, longitude, 0))
        out.write(FIGURES)
    predictions = read_predictions(path)
    assert predictions.truths is not None
    assert len(predictions.rows) == len(predictions.truths) == photographs
    assert recognised(predictions.truths.ids) is not None
    document = evaluate(match(known_truths(None, [predictions]), [predictions]))
    assert (document["n"], document["accuracy"]["1"]) == (photographs, 100)
    assert document["left_out"]["total"] == 2


@pytest.mark.parametrize(
    "end",
    [
        "metric,value\nacc,0.5\n",
        "\nacc 1,acc 25,acc 200,acc 750,acc 2500,median km\n0.1,0.2,0.3,0.4,0.5,12.5\n",
        "a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n",
        f"{FIGURES}x.jpg,1,1,1,1,0\n",
        "acc,median\n16.9 %,200 km\n",
    ],
)
def test_any_other_header_ends_the_table(tmp_path: Path, end: str) -> None:
    path = written(tmp_path, f"{COLUMNS}\na.jpg,0,0,10,10,0\nb.jpg,0,0,10,10.1,11.1\n{end}")
    assert list(read_predictions(path).rows) == ["a.jpg", "b.jpg"]
    assert {reason for reason, _line in said(path)} <= {"other_table", "blank_line"}


@pytest.mark.parametrize(
    "end",
    [
        FIGURES.splitlines()[0],
        f"{FIGURES.splitlines()[0]}\n\n",
        "metric,value",
        "street,city,region,country,continent,median,mean\n",
        "img_id,truth_lat,our_lat,truth_long,our_long,distance\n",
    ],
)
def test_a_header_that_is_the_last_line_ends_the_table(tmp_path: Path, end: str) -> None:
    path = written(tmp_path, f"{COLUMNS}\na.jpg,0,0,10,10,0\nb.jpg,0,0,10,10.1,11.1\n{end}")
    predictions = read_predictions(path)
    assert list(predictions.rows) == ["a.jpg", "b.jpg"]
    document = evaluate(match(known_truths(None, [predictions]), [predictions]))
    assert document["n"] == 2
    assert said(path)[0] == ("other_table", 4)


@pytest.mark.parametrize("last", ["x.jpg,unknown,unknown", "x.jpg,north", "x.jpg,?,?", "x.jpg"])
def test_a_last_row_of_words_is_no_header(tmp_path: Path, last: str) -> None:
    path = written(tmp_path, f"file,lat,lon\na.jpg,1,2\nb.jpg,3,4\n{last}\n")
    assert ("other_table", 4) not in said(path)


def test_our_last_failed_result_is_no_header(tmp_path: Path) -> None:
    text = (
        "archive,bucket,key,state,code,longitude,latitude,confidence\n"
        "a,b,1.jpg,geotagged,,1,2,0.5\na,b,2.jpg,failed,corrupt,,,\n"
    )
    rows = read_predictions(written(tmp_path, text)).rows
    assert list(rows) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("wrong", ["x.jpg,unknown,unknown", "x.jpg,north", "x.jpg,?,?", "x.jpg"])
def test_a_row_of_words_between_rows_is_no_header(tmp_path: Path, wrong: str) -> None:
    path = written(tmp_path, f"file,lat,lon\na.jpg,1,2\n{wrong}\nb.jpg,3,4\nc.jpg,5,6\n")
    assert read_truths(path).ids == ("a.jpg", "b.jpg", "c.jpg")


def test_our_failed_results_are_no_header(tmp_path: Path) -> None:
    text = (
        "archive,bucket,key,state,code,longitude,latitude,confidence\n"
        "a,b,1.jpg,geotagged,,1,2,0.5\na,b,2.jpg,failed,corrupt,,,\n"
        "a,b,3.jpg,failed,corrupt,,,\na,b,4.jpg,pending\n"
    )
    rows = read_predictions(written(tmp_path, text)).rows
    assert list(rows) == ["1.jpg", "2.jpg", "3.jpg"]


def test_a_row_without_truth_and_prediction_is_a_miss(tmp_path: Path) -> None:
    path = written(tmp_path, f"{COLUMNS}\na.jpg,0,0,10,10,0\nb.jpg,,,,,\nmean,,,,,2137\n")
    predictions = read_predictions(path)
    assert predictions.rows["b.jpg"].answer is AnswerState.ABSTAINED
    assert [(r.reason, r.line) for r in predictions.remarks] == [("summary_row", 4)]
    truth = tmp_path / "truth.csv"
    truth.write_text("file,lat,lon\na.jpg,0,10\nb.jpg,0,10\n")
    document = evaluate(match(known_truths(read_truths(truth), [predictions]), [predictions]))
    assert (document["n"], document["accuracy"]["1"]) == (2, 50)
