"""From a run in miniature to a release, by the command: what it holds, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from geotag.exits import INTERRUPTED
from geotag.releases import making
from tests import four_places, training_files
from tests.command import in_this_process
from tests.four_places import HELD_OUT, LEARNT, PLACES
from tests.stack_helpers import until
from tests.training_process import train
from triton_models.release.build import build, built
from triton_models.release.release import Release
from triton_models.release.serving import ReleaseRunner
from triton_models.training import segmentation_graph
from triton_models.training.semantics import Segmenter
from workers.errors import UsageError

# torch.export's own use of something it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run has ended, in `run`."""
    folder = tmp_path_factory.mktemp("making")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(four_places.write(folder))
    torch.set_num_threads(threads)
    return folder


def make(run: Path, out: Path, **values: object) -> str:
    asked: dict[str, object] = {
        "held_out": None, "photos": None, "count": 2000, "error_rate": None, "attribution": None,
        "version": 1,
    }  # fmt: skip
    return making.run(run, out.name, out.parent, **(asked | values))  # type: ignore[arg-type]


def geotag(cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("geotag")), "releases", *arguments],
        cwd=cwd, env={"PATH": "", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def test_the_command_makes_a_release_that_knows_the_places(folder: Path, tmp_path: Path) -> None:
    rights = tmp_path / "rights.md"
    rights.write_text("- Colours: our own.")
    done = geotag(
        folder, "make", "run", "--name", "mine", "--out", str(tmp_path), "--version", "3",
        "--error-rate", "0.15", "--attribution", str(rights),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    release = Release.load(tmp_path / "mine")
    assert done.stdout == f"{tmp_path / 'mine'}: {release.digest}\n"
    assert "% of 105 placed within 200 km" in done.stderr
    assert (release.version, release.manifest.fit, release.calibrated) == (3, "crop", True)
    assert build(release, tmp_path / "models")
    assert built(tmp_path / "models") == ["mine"]
    card = release.file("MODEL_CARD.md").read_text()
    for fact in (
        "what 24 photographs in 4 cells show", "by the places of 24 photographs", "our own",
        "at most 15 % of its answers", "| calibrated, 105 |",
    ):  # fmt: skip
        assert fact in card
    assert str(folder) not in card + release.file("release.json").read_text()
    answer, right = ReleaseRunner(release), []
    for k in range(HELD_OUT):
        said = answer(np.array(Image.open(folder / "validation" / f"{k}.png")))
        place, night = four_places.scene_of("validation", k)
        near = said.position == pytest.approx(PLACES[place], abs=0.02)
        assert near or night
        if not said.abstention:
            assert 0.8 < said.confidence[2] <= 1
            right.append(near)
    assert right
    assert np.mean(right) >= 0.85


def test_told_to_end_it_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """While it asks about a picture that never comes: a pipe."""
    pictures, scratch, out = (tmp_path / name for name in ("pictures", "scratch", "out"))
    (pictures / "validation").mkdir(parents=True)
    scratch.mkdir()
    os.mkfifo(pictures / "validation" / "0.png")
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("geotag")), "releases", "make", "run", "--name", "mine",
         "--out", str(out), "--photos", str(pictures)],
        cwd=folder, env={"PATH": "", "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        until(lambda: process.poll() is not None or any(scratch.rglob("release.json")))
        assert process.poll() is None
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in said
    assert not [path for path in scratch.iterdir() if path.is_dir()]  # ONNX Runtime leaves a file
    assert not list(out.iterdir())


def test_without_a_rate_of_errors_it_always_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = make(folder / "run", tmp_path / "mine", count=60)
    assert "% of 60 placed within 200 km" in (said := capsys.readouterr().err)
    assert "it always answers" in said
    release = Release.load(tmp_path / "mine")
    assert release.digest == digest
    assert release.manifest.calibration["abstain_below"] is None  # type: ignore[index]
    assert "It always answers" in (card := release.file("MODEL_CARD.md").read_text())
    assert "**Not stated.** Write here whose" in card


def test_photographs_that_it_learnt_from_are_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name and place, wherever the table says that they lie; names alone are others' too."""
    rows = four_places.read_table(folder / "photographs.csv")
    moved = [(file.replace("/", "/moved/"), *others) for file, *others in rows[:LEARNT]]
    four_places.write_table(tmp_path / "all.csv", [*moved, *rows])  # type: ignore[list-item]
    make(folder / "run", tmp_path / "mine", held_out=tmp_path / "all.csv")
    said = capsys.readouterr().err
    assert f"{2 * LEARNT} photographs left out: the run was trained on them" in said
    assert f"of {HELD_OUT} placed" in said
    rounded = [(file, round(lon, 2), round(lat, 2), *others) for file, lon, lat, *others in rows]
    four_places.write_table(tmp_path / "learnt.csv", rounded[:LEARNT])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"learnt\.csv: the run was trained on every photograph"):
        make(folder / "run", tmp_path / "other", held_out=tmp_path / "learnt.csv")


def test_photographs_from_elsewhere_and_pictures_that_cannot_be_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = four_places.read_table(folder / "photographs.csv")[LEARNT:]
    shutil.copytree(folder / "validation", tmp_path / "photos")
    (tmp_path / "photos" / "7.png").write_bytes(b"no picture")
    there = [(Path(file).name, lon, lat, "", "") for file, lon, lat, *_ in rows]
    there[0] = (there[0][0], 80.0, 0.0, "", "")  # in no cell
    shutil.copyfile(tmp_path / "photos" / "3.png", tmp_path / "photos" / "copy.png")
    there.append(("copy.png", *there[3][1:]))
    four_places.write_table(tmp_path / "there.csv", there)
    make(
        folder / "run", tmp_path / "mine", held_out=tmp_path / "there.csv",
        photos=str(tmp_path / "photos"),
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "1 pictures could not be used: not_an_image" in said
    assert "1 pictures could not be used: repeated" in said
    card = (tmp_path / "mine" / "MODEL_CARD.md").read_text()
    assert f"{HELD_OUT - 1} photographs that it was not trained on; 1 of them lie in no" in card
    assert "Scene: not measured" in card
    nowhere = [(file, 80.0, 0.0, "", "") for file, *_ in there]
    four_places.write_table(tmp_path / "nowhere.csv", nowhere)
    with pytest.raises(UsageError, match="lies in a fine cell: give more photographs, from places"):
        make(
            folder / "run", tmp_path / "none", held_out=tmp_path / "nowhere.csv",
            photos=str(tmp_path / "photos"),
        )  # fmt: skip


def test_a_network_that_sees_no_class_map_gets_a_blank_one(tmp_path: Path) -> None:
    path = four_places.write(tmp_path)
    train(path, network__branches="rgb", training__epochs="10")
    make(tmp_path / "run", tmp_path / "mine", count=60)
    release = Release.load(tmp_path / "mine")
    assert "none: it looks at pixels alone" in release.file("MODEL_CARD.md").read_text()
    session = onnxruntime.InferenceSession(release.file("segmentation.onnx"))
    picture = np.full((2, 16, 16, 3), 255, np.uint8)
    (ids,) = session.run(["CLASS_MAP"], {"IMAGE": picture})
    assert ids.shape == (2, 16, 16)
    assert not ids.any()


def test_the_segmentation_network_is_the_given_one_by_the_names_of_a_release(
    tmp_path: Path,
) -> None:
    given, served = tmp_path / "segmentation.onnx", tmp_path / "served" / "segmentation.onnx"
    served.parent.mkdir()
    training_files.write_segmenter(given)
    segmentation_graph.write_served(given, served, training_files.SIZE)
    session = onnxruntime.InferenceSession(served)
    ends = [*session.get_inputs(), *session.get_outputs()]
    assert [(end.name, end.shape) for end in ends] == [
        ("IMAGE", ["batch", 16, 16, 3]),
        ("CLASS_MAP", ["batch", 16, 16]),
    ]
    pictures = np.random.default_rng(0).integers(256, size=(3, 16, 16, 3), dtype=np.uint8)
    (ids,) = session.run(None, {"IMAGE": pictures})
    assert np.array_equal(ids, Segmenter(given)(pictures))
    segmentation_graph.write_served(served, given, training_files.SIZE)
    assert given.read_bytes() == served.read_bytes()


def change_network(run: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    description = json.loads((run / "network.json").read_text())
    change(description)
    (run / "network.json").write_text(json.dumps(description))


def without_scenes(run: Path) -> None:
    change_network(run, lambda d: d["network"].update(scenes=0))


def with_other_scenes(run: Path) -> None:
    scenes = ["beach", "city", "forest"]
    change_network(run, lambda d: d["config"]["data"].update(scenes=scenes))  # type: ignore[attr-defined]


def without_labels(run: Path) -> None:
    table = pq.read_table(run / "photographs.parquet")
    at, blank = table.column_names.index("scene"), pa.array([""] * table.num_rows)
    pq.write_table(table.set_column(at, "scene", blank), run / "photographs.parquet")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_scenes, "without a scene head, .* train with network.scenes = 3"),
        (with_other_scenes, "tells beach, city, forest apart; .* indoor, natural, urban"),
        (without_labels, "no photograph that it learnt from had a scene"),
        (lambda run: (run / "network.json").unlink(), "has ended: no network.json; .*--resume"),
        (lambda run: (run / "network.json").write_text("{"), "damaged"),
        (lambda run: (run / "partitions.parquet").write_bytes(b""), "damaged"),
        (lambda run: (run / "segmentation.onnx").unlink(), "segmentation.onnx is missing; .*--re"),
        (lambda run: (run / "translocator.onnx").unlink(), "translocator.onnx is missing"),
    ],
)
def test_a_run_that_cannot_become_a_release(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    spoil(run)
    with pytest.raises(UsageError, match=says):
        make(run, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"held_out": Path("none.csv")}, "none.csv: No such file"),
        ({"photos": "none"}, "none is no folder: .*--photos"),
        ({"attribution": Path("none.md")}, "none.md: No such file"),
        ({"held_out": Path("beach.csv")}, "scene 'beach' is none of indoor, natural, urban"),
        ({"count": 30}, "30 held-out photographs could be used; 50 are the fewest: give more"),
        ({"photos": "run"}, "0 held-out photographs could be used, 105 not: object_missing; 50 "),
        ({"error_rate": 0.001}, "no threshold keeps errors at 0.1%, .*another --error-rate"),
    ],
)
def test_held_out_photographs_that_do_not_do(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, object],
    says: str,
) -> None:
    monkeypatch.chdir(folder)
    four_places.write_table(Path("beach.csv"), [("validation/0.png", 80.0, 0.0, "beach", "")])
    with pytest.raises(UsageError, match=says):
        make(folder / "run", tmp_path / "mine", **asked)
    assert not (tmp_path / "mine").exists()


def test_wrong_usage_is_a_sentence_and_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "taken").mkdir()
    for name, out, sentence in (
        ("taken", ".", "taken exists already"),
        ("No Name", ".", "use only a-z, 0-9"),
        ("../mine", ".", "use only a-z, 0-9"),
        ("landmarks", ".", "landmarks is the name of a shipped release"),
        ("mine", "config.toml", "--out config.toml: File exists"),
    ):
        done = in_this_process("releases", "make", "run", "--name", name, "--out", out)
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
