"""Files of truth and predictions as they come, and what is wrong with them."""

import csv
import json
from pathlib import Path

import pytest

from triton_models.evaluation.matching import known_truths, match
from triton_models.evaluation.predictions import AnswerState, read_predictions
from triton_models.evaluation.published_results import (
    BENCHMARKS,
    benchmark_named,
    recognised,
    size_hint,
)
from triton_models.evaluation.tables import Effect, EvaluationError, Remark, read_table
from triton_models.evaluation.truth import read_truths, with_pictures

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(
    not (SHARED / "benchmarks").is_dir(), reason="the benchmarks' truth is not here"
)


def written(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def said(remarks: tuple[Remark, ...]) -> list[tuple[str, int | None]]:
    return [(remark.reason, remark.line) for remark in remarks]


@needs_shared
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("im2gps_places365.csv", "Im2GPS"),
        ("im2gps3k_places365.csv", "Im2GPS3k"),
        ("yfcc25600_places365.csv", "YFCC26k"),
    ],
)
def test_benchmarks_load_as_they_are(file: str, name: str) -> None:
    truths = read_truths(SHARED / "benchmarks" / file)
    benchmark = benchmark_named(name)
    assert len(truths) == benchmark.photographs
    assert truths.remarks == ()
    assert None not in truths.scenes
    assert recognised(truths.ids) is benchmark


@needs_shared
def test_the_scene_labels_are_what_the_probabilities_say() -> None:
    path = SHARED / "benchmarks" / "im2gps_places365.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    likeliest = [
        max(("indoor", "natural", "urban"), key=lambda s: float(row[f"Prob_{s}"])) for row in rows
    ]
    assert list(read_truths(path).scenes) == likeliest


@needs_shared
def test_photographs_metadata_load_and_blank_positions_are_named() -> None:
    camera = SHARED / "photos" / "camera"
    truths = with_pictures(read_truths(camera / "metadata.csv"), camera)
    with (camera / "metadata.csv").open() as file:
        blank = [n for n, row in enumerate(csv.DictReader(file), 2) if not row["latitude"]]
    assert blank
    assert said(truths.remarks) == [("missing_coordinates", line) for line in blank]
    assert len(truths) + len(blank) == 49
    landmarks = SHARED / "photos" / "landmarks"
    assert len(with_pictures(read_truths(landmarks / "metadata.csv"), landmarks)) == 1422


def test_truth_without_a_picture_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "here.jpg").touch()
    text = "file,latitude,longitude\nsub/here.jpg,1,2\ngone.jpg,3,4\n"
    truths = with_pictures(read_truths(written(tmp_path, text)), tmp_path)
    assert truths.ids == ("sub/here.jpg",)
    assert said(truths.remarks) == [("no_picture", 3)]


@pytest.mark.parametrize(
    ("latitude", "longitude", "reason"),
    [
        ("", "5", "missing_coordinates"),
        ("NaN", "5", "missing_coordinates"),
        ("north", "5", "not_a_number"),
        ("inf", "5", "not_a_number"),
        ("139.7", "35.7", "swapped"),
        ("95", "100", "out_of_range"),
        ("5", "180.1", "out_of_range"),
        ("0", "-0.0", "null_island"),
    ],
)
def test_a_position_that_is_none(
    tmp_path: Path, latitude: str, longitude: str, reason: str
) -> None:
    text = f"id,lat,lon\n1,{latitude},{longitude}\n2,-90,180\n".replace("id,", "img_id,")
    truths = read_truths(written(tmp_path, text))
    assert truths.ids == ("2",)
    assert said(truths.remarks) == [(reason, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not even a header"),
        ("img_id,lat\na,1\n", "no column lon or longitude or lng or long; it has img_id, lat"),
        ("img_id,lat,latitude,lon\n", "which column is meant, lat or latitude"),
        ("img_id,lat,LAT,lon\n", "which column is meant, lat or lat"),
        ("img_id;lat;lon\n", "no column img_id or file"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_truths(written(tmp_path, text))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"img_id,lat,lon\n\xff\xfe,1,2\n")
    with pytest.raises(EvaluationError, match="no CSV in UTF-8"):
        read_truths(path)
    with pytest.raises(EvaluationError, match="No such file"):
        read_truths(tmp_path / "gone.csv")


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    text = '\ufeff\nIMG_ID,Lat,LON\n"two\nlines",1,2\nb,3,4,,\nc,5,6,7\n,,\n'
    table = read_table(written(tmp_path, text))
    assert [row.line for row in table.rows] == [4, 5]
    assert said(table.remarks) == [("blank_line", 1), ("too_many_cells", 6), ("blank_line", 7)]


OURS = "bucket,key,state,code,longitude,latitude,confidence,scene,release\n"


def test_states_of_our_results(tmp_path: Path) -> None:
    text = OURS + (
        "b,f/1,geotagged,,1,2,0.5,urban,r\n"
        "b,f/2,abstained,too_little_evidence,,,,,r\n"
        "b,f/3,failed,corrupt,,,,,r\n"
        "b,f/4,quarantined,worker_killed,,,,,r\n"
        "b,f/5,pending,,,,,,\n"
        "b,f/6,geotagged,,185,5,0.5,,r\n"
        "b,f/7,geotagged,,1,2,1.5,,r\n"
        "b,f/8,happy,,1,2,0.5,,r\n"
    )
    found = read_predictions(written(tmp_path, text))
    assert [(key, row.answer) for key, row in found.rows.items()] == [
        ("f/1", AnswerState.ANSWERED),
        ("f/2", AnswerState.ABSTAINED),
        ("f/3", AnswerState.FAILED),
        ("f/4", AnswerState.FAILED),
        ("f/6", AnswerState.INVALID),
        ("f/7", AnswerState.ANSWERED),
        ("f/8", AnswerState.INVALID),
    ]
    assert [(r.reason, r.line, r.effect) for r in found.remarks] == [
        ("pending", 6, Effect.LEFT_OUT),
        ("out_of_range", 7, Effect.MISS),
        ("confidence_out_of_range", 8, Effect.USED),
        ("unknown_state", 9, Effect.MISS),
    ]


def test_json_says_the_same_as_csv(tmp_path: Path) -> None:
    text = OURS + "b,f/1,geotagged,,1,2,0.5,urban,r\nb,f/2,abstained,,,,,,r\n"
    record = {"bucket": "b", "code": None, "release": "r"}
    records = [
        record
        | {"key": "f/1", "state": "geotagged", "longitude": 1.0, "latitude": 2.0}
        | {"confidence": 0.5, "scene": "urban"},
        record
        | {"key": "f/2", "state": "abstained", "longitude": None, "latitude": None}
        | {"confidence": None, "scene": None},
    ]
    as_csv = read_predictions(written(tmp_path, text))
    as_json = read_predictions(written(tmp_path, json.dumps(records), "a.json"))
    for key, row in as_csv.rows.items():
        other = as_json.rows[key]
        assert (row.answer, row.scene) == (other.answer, other.scene)
        assert row.place == pytest.approx(other.place, nan_ok=True)
        assert row.confidence == pytest.approx(other.confidence, nan_ok=True)
    with pytest.raises(EvaluationError, match="not an array of objects"):
        read_predictions(written(tmp_path, '{"key": 1}', "b.json"))


THEIRS = "img_id,gt_lat,predicted_lat,gt_long,predicted_long,great_circle_distance\n"


def test_predictions_that_contradict_each_other_are_a_miss(tmp_path: Path) -> None:
    text = THEIRS + "a,1,1,1,1,0\na,1,1,1,1,0\nb,1,1,1,1,0\nb,1,2,1,1,111\nc,1,,1,,\n"
    found = read_predictions(written(tmp_path, text))
    assert {key: row.answer for key, row in found.rows.items()} == {
        "a": AnswerState.ANSWERED,
        "b": AnswerState.INVALID,
        "c": AnswerState.ABSTAINED,
    }
    assert found.truths is not None
    assert found.truths.ids == ("a", "b", "c")


def test_truth_file_and_truth_in_the_predictions_that_differ(tmp_path: Path) -> None:
    truths = read_truths(written(tmp_path, "img_id,lat,lon\na,1,1\nb,2,2\n", "truth.csv"))
    inside = read_predictions(written(tmp_path, THEIRS + "a,1,1,1,1,0\nb,9,2,2,2,778\n"))
    matched = match(known_truths(truths, [inside]), [inside])
    assert [(r.reason, r.line, r.id) for r in matched.remarks] == [("contradicts_truth", 3, "b")]
    # The truth file is right: the prediction of b is at its very place.
    assert matched.systems[0].error_km.tolist() == pytest.approx([0, 0])


def test_systems_are_scored_on_the_same_photographs(tmp_path: Path) -> None:
    one = read_predictions(written(tmp_path, THEIRS + "a,1,1,1,1,0\nb,2,2,2,2,0\n", "one.csv"))
    two = read_predictions(written(tmp_path, "file,lat,lon\nx/b,2,2\nx/c,3,3\n", "two.csv"))
    matched = match(known_truths(None, [one, two]), [one, two])
    assert matched.truths.ids == ("a", "b")
    assert matched.systems[1].answers == (AnswerState.MISSING, AnswerState.ANSWERED)
    assert [(r.reason, r.id) for r in matched.remarks] == [("no_truth", "x/c")]


def test_an_id_matches_as_it_is_before_it_matches_without_its_folder(tmp_path: Path) -> None:
    truths = read_truths(written(tmp_path, "img_id,lat,lon\nx/a,1,1\na,2,2\n", "truth.csv"))
    found = read_predictions(written(tmp_path, "key,latitude,longitude\nx/a,1,1\nx/x/a,5,5\n"))
    matched = match(truths, [found])
    # x/a is the id of a truth; x/x/a is, without its folder, the same one, elsewhere.
    assert matched.truths.ids == ("x/a",)
    assert matched.systems[0].answers == (AnswerState.INVALID,)


def test_nothing_to_match_is_said_with_an_example(tmp_path: Path) -> None:
    truths = read_truths(written(tmp_path, "img_id,lat,lon\na,1,1\n", "truth.csv"))
    found = read_predictions(written(tmp_path, "key,latitude,longitude\nz/b,1,1\n"))
    with pytest.raises(EvaluationError, match=r"predicted is 'z/b', true is 'a'"):
        match(truths, [found])
    with pytest.raises(EvaluationError, match="--truth"):
        known_truths(None, [found])
    swapped = read_truths(written(tmp_path, "img_id,lat,lon\na,100,1\nb,,\n", "swapped.csv"))
    with pytest.raises(EvaluationError, match="swapped 1, missing_coordinates 1"):
        match(swapped, [found])
    empty = read_predictions(written(tmp_path, "key,latitude,longitude\n", "empty.csv"))
    with pytest.raises(EvaluationError, match="empty: no predictions"):
        match(truths, [empty])


def test_published_results_rise_with_the_radius() -> None:
    assert {b.name for b in BENCHMARKS} == {"Im2GPS", "Im2GPS3k", "YFCC4k", "YFCC26k"}
    for benchmark in BENCHMARKS:
        for _method, row in benchmark.rows:
            values = [value for value in row if value is not None]
            assert values == sorted(values)


@pytest.mark.skipif(not (SHARED / "DESIGN.md").is_file(), reason="the design page is not here")
def test_published_results_are_those_of_the_design_page() -> None:
    table = {
        cells[1].strip(): [cells[2].strip(), cells[3].strip()]
        for line in (SHARED / "DESIGN.md").read_text().splitlines()
        if line.startswith("| ") and len(cells := line.split("|")) == 5
    }

    def as_there(row: tuple[float | None, ...]) -> str:
        return " / ".join("–" if value is None else f"{value:.1f}" for value in row)

    for column, name in enumerate(("Im2GPS", "Im2GPS3k")):
        rows = {m: as_there(row) for m, row in benchmark_named(name).rows}
        there = {m: cells[column] for m, cells in table.items() if "/" in cells[column]}
        assert rows == there


def test_a_benchmark_is_known_by_its_ids_not_by_their_number() -> None:
    ids = [f"{k}.jpg" for k in range(237)]
    assert recognised(ids) is None
    assert "--benchmark Im2GPS " in (size_hint(237) or "")
    assert size_hint(238) is None
    assert benchmark_named("im2gps3k").name == "Im2GPS3k"
    with pytest.raises(EvaluationError, match="known are Im2GPS, Im2GPS3k, YFCC4k, YFCC26k"):
        benchmark_named("im2gps4k")
