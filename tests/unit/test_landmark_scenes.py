"""The scene labels are complete, and no series is in both parts of the split."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from triton_models.landmarks.scenes import SceneLabel, commonest, read_labels
from triton_models.scenes.classes import SCENES


def test_enough_of_every_scene_in_both_parts() -> None:
    labels = read_labels()
    assert len({label.file for label in labels}) == len(labels)
    for part in ("train", "test"):
        scenes = Counter(label.scene for label in labels if label.part == part)
        assert set(scenes) == set(SCENES)
        assert scenes.total() >= 150
    assert {label.part for label in labels if label.file.startswith("camera/")} == {"test"}


def test_every_labelled_photograph_exists_and_no_series_is_in_both_parts(shared: Path) -> None:
    series = {}
    for collection in ("landmarks", "camera"):
        table = shared / "photos" / collection / "metadata.csv"
        for row in csv.DictReader(table.read_text("utf-8").splitlines()):
            series[f"{collection}/{row['file']}"] = row.get("series", row["file"])
    parts: dict[str, set[str]] = {}
    for label in read_labels():
        parts.setdefault(series[label.file], set()).add(label.part)
    assert [name for name, found in parts.items() if len(found) > 1] == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a.jpg,beach,train,", "line 3: scene is one of indoor, natural, urban, not 'beach'"),
        ("a.jpg,urban,both,", "line 3: part is train or test, not 'both'"),
        ("a.jpg,urban,test,no", "line 3: doubtful is empty or yes, not 'no'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "scenes.csv"
    path.write_text(f"file,scene,part,doubtful\nb.jpg,urban,test,yes\n{line}\n")
    with pytest.raises(ValueError, match=complaint):
        read_labels(path)


def test_the_commonest_scene() -> None:
    labels = [SceneLabel(str(k), scene, "test", False) for k, scene in enumerate(SCENES)]
    assert commonest([*labels, labels[1]]) == "natural"
