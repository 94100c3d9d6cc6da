"""`geotag scenes` keeps the scenes of a table, and adds those that pictures clearly show."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geotag.training import scenes
from triton_models.landmarks.scenes import read_labels
from workers.errors import UsageError


def write(path: Path, lines: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_known_scenes_are_kept_and_bad_pictures_get_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((32, 32, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((32, 32, 3), 127, np.uint8)).save(tmp_path / "held-out.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    header = ["File", "note", "latitude", "longitude", "scene", "split"]
    lines = [
        ["a.png", "x,y", "1", "2", "urban", "train"],
        ["bad.png", "", "1", "2", "", ""],
        ["none.png", "", "1", "2", "", ""],
        ["grey.png", "", "1", "2", "", ""],
        ["nul\0.png", "", "1", "2", "", ""],
        ["held-out.png", "", "1", "2", "", "validation"],
    ]
    table = write(tmp_path / "table.csv", [header, lines[0], [], *lines[1:]])
    scenes.run(table, str(tmp_path), tmp_path / "out.csv")
    assert read(tmp_path / "out.csv") == [header, *lines]
    said = capsys.readouterr().err
    assert "labelled: none; left empty, as not sure: 1" in said
    assert "left empty, as held out: 1" in said
    assert "could not be used: 1 (not_an_image)" in said
    assert "could not be used: 2 (object_missing)" in said
    # A line may end early, or go on behind the last column.
    table = write(
        tmp_path / "table.csv",
        [["file", "lat", "lon", "note"], ["grey.png", "1", "2"], ["grey.png", "1", "2", "x", "y"]],
    )
    scenes.run(table, str(tmp_path), tmp_path / "new" / "ragged.csv")
    assert read(tmp_path / "new" / "ragged.csv") == [
        ["file", "lat", "lon", "note", "scene"],
        ["grey.png", "1", "2", "", ""],
        ["grey.png", "1", "2", "x", ""],
    ]
    # The published tables number their scenes; a column is added where there is none.
    header = ["IMG_ID", "LAT", "LON", "S3_Label"]
    table = write(tmp_path / "table.csv", [header, ["a.png", "1", "2", "0"]])
    scenes.run(table, str(tmp_path), tmp_path / "mp16.csv")
    assert read(tmp_path / "mp16.csv") == [[*header, "scene"], ["a.png", "1", "2", "0", "0"]]


def test_pictures_from_cameras_get_their_scene_if_it_is_sure(shared: Path, tmp_path: Path) -> None:
    known = {x.file: x.scene for x in read_labels() if x.file.startswith("camera/")}
    rows = [[file, "1", "2"] for file in known]
    table = write(tmp_path / "table.csv", [["file", "latitude", "longitude"], *rows])
    scenes.run(table, str(shared / "photos"), tmp_path / "out.csv")
    header, *found = read(tmp_path / "out.csv")
    assert header == ["file", "latitude", "longitude", "scene"]
    right = [known[row[0]] == row[3] for row in found if row[3]]
    assert len(right) > len(known) / 2
    assert np.mean(right) > 0.75


def test_wrong_usage(tmp_path: Path) -> None:
    table = write(tmp_path / "table.csv", [["file", "latitude"], ["a.png", "1"]])
    for path, photos, out, says in (
        (table, ".", "out.csv", "table.csv: no column lon"),
        (tmp_path / "none.csv", ".", "out.csv", "none.csv: No such file"),
        (table, ".", "table.csv", "table.csv exists already"),
        (table, ".", "table.csv/out.csv", "out.csv: File exists"),
        (table, ".", "x" * 300, "File name too long"),
    ):
        with pytest.raises(UsageError, match=says):
            scenes.run(path, photos, tmp_path / out)
    table = write(tmp_path / "table.csv", [["file", "lat", "lon"], ["a.png", "1", "2"]])
    for photos, says in (
        ("nowhere", "nowhere is no folder: .*--photos"),
        (".", r"no picture could be used \(1 object_missing\): --photos"),
    ):
        with pytest.raises(UsageError, match=says):
            scenes.run(table, str(tmp_path / photos), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
