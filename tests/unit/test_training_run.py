"""Whole runs in miniature: killed and resumed, in two processes, in micro-batches, refused."""

import csv
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from geotag.exits import INTERRUPTED
from geotag.training import train as command
from tests import training_files
from tests.training_process import train
from triton_models.networks.translocator import TransLocator, TransLocatorConfig
from triton_models.training import config
from triton_models.training.checkpoint import Checkpoint
from triton_models.training.config import ConfigError
from triton_models.training.distributed import World
from triton_models.training.loop import Trainer
from triton_models.training.pictures import Pictures
from triton_models.training.plan import plan
from triton_models.training.run import material
from workers.errors import ArchiveUnavailable, UsageError
from workers.s3.service import ArchiveObject, Fetched, S3Service
from workers.settings import WorkerSettings

PROJECT = Path(__file__).parent.parent.parent

# torch.export's own use of something it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums over several threads would be ordered otherwise in another process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# AdamW divides a gradient by its own size, so it makes much of rounding where the gradient is
# zero in exact arithmetic (the bias of the keys): comparisons but for rounding are made with SGD.
EXACT = {
    "network__dropout": "0",
    "network__scenes": "0",
    "training__optimiser": "sgd",
    "training__epochs": "2",
}


# Noise with random labels can only be memorised. Unvaried pictures are, on every processor; varied
# ones only as far as the initial weights allow.
UNVARIED = {
    "augmentation__area": "[1.0, 1.0]",
    "augmentation__aspect": "1",
    "augmentation__mirror": "0",
    "augmentation__colour": "0",
}


def process(*arguments: str, cwd: Path = PROJECT) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [*arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "network.safetensors")


def log(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_killed_and_resumed_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    path = training_files.write(tmp_path)
    for name in ("4.png", "5.png"):  # one to train on, one to validate on
        (tmp_path / "photographs" / name).write_bytes(b"no picture")
    text = path.read_text()
    path.write_text(text.replace("[network]", "[network]\nscenes = 0"))  # no export
    killed = process(sys.executable, "-m", "tests.training_process", str(path), "kill", "8")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(log(tmp_path / "run")) == 8
    assert not (tmp_path / "run" / "network.safetensors").exists()
    train(path, resume=True)
    train(path, out="whole")
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [line["step"] for line in log(tmp_path / "run")] == [str(k) for k in range(1, 11)]
    for column in ("loss", "fine", "learning_rate", "bad"):
        theirs_column = [line[column] for line in log(tmp_path / "whole")]
        assert [line[column] for line in log(tmp_path / "run")] == theirs_column
    found = [(tmp_path / name / "validation.csv").read_text() for name in ("run", "whole")]
    assert found[0] == found[1]
    assert "\n10,within_25_km," in found[0]
    bad = (tmp_path / "run" / "bad.csv").read_text().splitlines()
    why = "not_an_image,the bytes are of no image format"
    assert bad == ["file,code,message", f"4.png,{why}", f"5.png,{why}"]


def test_it_learns_and_leaves_what_a_release_is_made_of(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    train(path, training__epochs="40", training__log_every="5", network__dropout="0", **UNVARIED)
    out = tmp_path / "run"
    losses = [float(line["loss"]) for line in log(out)]
    assert losses[-1] < 0.85 * losses[0]
    described = json.loads((out / "network.json").read_text())
    assert TransLocatorConfig(**described["network"]).segmentation_classes == 4
    for key, path in (("data.segmentation", tmp_path), ("locator_reads", out)):
        network = (path / "segmentation.onnx").read_bytes()
        assert described[key] == hashlib.sha256(network).hexdigest()
    session = onnxruntime.InferenceSession(out / "translocator.onnx")
    assert [x.name for x in session.get_inputs()] == ["IMAGE", "CLASS_MAP"]
    assert list((out / "tensorboard").iterdir())


@pytest.mark.parametrize("change", [{"training__micro_batch": "1"}, {"data__processes": "2"}])
def test_neither_micro_batches_nor_readers_change_the_result(
    change: dict[str, str], tmp_path: Path
) -> None:
    path = training_files.write(tmp_path)
    train(path, **EXACT)
    train(path, out="other", **EXACT, **change)
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "other")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_bf16_learns_about_what_fp32_learns(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    train(path, **EXACT)
    train(path, out="half", training__precision="bf16", **EXACT)
    ours, theirs = (
        [float(line["loss"]) for line in log(tmp_path / out)] for out in ("run", "half")
    )
    assert ours == pytest.approx(theirs, rel=0.05)
    assert ours != theirs


def in_two_processes(path: Path, **values: str) -> None:
    """Train by the documented command, with gloo between two CPU processes."""
    options = [x for k, v in values.items() for x in ("--set", f"{k.replace('__', '.')}={v}")]
    programs = Path(sys.executable).parent
    done = process(
        str(programs / "torchrun"), "--standalone", "--nproc-per-node", "2", "--no-python",
        str(programs / "geotag"), "train", str(path), *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    fixed = EXACT | {"training__micro_batch": "1"}
    in_two_processes(path, out="two", **fixed)
    train(path, **fixed)
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "run")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    shards = {path.name for path in (tmp_path / "class-maps").rglob("maps-*.bin")}
    assert shards == {"maps-0.bin", "maps-1.bin"}


def test_two_processes_learn_with_a_stem_of_which_an_early_map_is_used(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    in_two_processes(
        path, network__stem="efficientnet-lite0", network__reductions="[4]",
        network__branches="rgb", network__scenes="0", training__micro_batch="2",
    )  # fmt: skip
    assert len(log(tmp_path / "run")) == 10


def test_where_one_of_two_processes_fails_both_keep_a_checkpoint_and_stop(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    fixed = EXACT | {"training__micro_batch": "1"}
    failed = process(
        str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2",
        "-m", "tests.training_process", str(path), "fail", "4", *map("=".join, fixed.items()),
    )  # fmt: skip
    assert failed.returncode == 1
    assert "PicturesUnavailable: nobody answers" in failed.stderr
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 4


def test_a_signal_stops_after_the_step_and_keeps_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = training_files.write(tmp_path)
    watched = command._Bars.watch

    def watch(bars: command._Bars, report: object) -> None:
        watched(bars, report)  # type: ignore[arg-type]
        if bars._progress.tasks[-1].completed == 5:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(command._Bars, "watch", watch)
    assert threading.current_thread() is threading.main_thread()
    changes = ["network.scenes=0"]
    assert command.run(path, changes, resume=False) == INTERRUPTED
    assert "stopped after step 6 of 10" in capsys.readouterr().err
    monkeypatch.undo()
    assert command.run(path, changes, resume=True) == 0
    train(path, out="whole", network__scenes="0")
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "within 2500 km" in capsys.readouterr().out


def outage(folder: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """From step 5 on, while it reads for `when`, the archive stays away; once."""
    pictures_of, watched, away = command.pictures_of, command._Bars.watch, folder / "away"
    splits = {file: split for file, *_, split in csv.reader((folder / "photographs.csv").open())}

    def watch(bars: command._Bars, report: object) -> None:
        watched(bars, report)  # type: ignore[arg-type]
        if bars._progress.tasks[-1].completed == 5:
            away.touch()

    def of(*arguments: object) -> Pictures:
        pictures = pictures_of(*arguments)  # type: ignore[arg-type]

        def fetch(file: str) -> bytes:
            if away.exists() and splits[file] == when:
                raise ArchiveUnavailable(f"{file}: nobody answers")
            return pictures.fetch(file)

        return Pictures(fetch, pictures.decode)

    monkeypatch.setattr(command, "pictures_of", of)
    monkeypatch.setattr(command._Bars, "watch", watch)


@pytest.mark.parametrize(("when", "stops"), [("train", range(5, 10)), ("validation", [10])])
@pytest.mark.parametrize("processes", [0, 1])
def test_an_outage_ends_a_run_with_its_message_and_a_checkpoint(
    when: str,
    stops: Sequence[int],
    processes: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = training_files.write(tmp_path)
    changes = ["network.scenes=0", f"data.processes={processes}"]
    with monkeypatch.context() as patched:
        outage(tmp_path, patched, when)
        with pytest.raises(ArchiveUnavailable, match=r"^\d+\.png: nobody answers$"):
            command.run(path, [*changes, "training.checkpoint_every=100"], resume=False)
    assert not multiprocessing.active_children()
    assert "to continue: geotag train" in capsys.readouterr().err
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["step"] in stops
    assert command.run(path, changes, resume=True) == 0
    train(path, out="whole", network__scenes="0")
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    found = [(tmp_path / name / "validation.csv").read_text() for name in ("run", "whole")]
    assert found[0] == found[1]


def test_all_that_a_step_computes_with_is_on_the_device(tmp_path: Path) -> None:
    """No GPU is needed to see it: torch's device meta is another device than the CPU, too."""
    planned = plan(config.load(training_files.write(tmp_path)))
    nothing = Pictures(lambda _: b"", lambda _: np.empty(0, np.uint8))
    world = World(0, 1, torch.device("meta"))
    trainer = Trainer(
        planned.config, TransLocator(planned.network), material(planned, nothing, None), world
    )
    state = [*trainer.learner.parameters(), *trainer.learner.buffers()]
    assert {x.device.type for x in state} == {"meta"}
    optimised = [p for group in trainer.optimiser.param_groups for p in group["params"]]
    assert {p.device.type for p in optimised} == {"meta"}


def test_another_recipe_is_not_resumed_and_a_run_not_overwritten(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    with pytest.raises(ConfigError, match="no checkpoint to resume from"):
        train(path, resume=True)
    train(path, training__epochs="1", network__scenes="0")
    with pytest.raises(ConfigError, match="holds a run: --resume it"):
        train(path)
    with pytest.raises(ConfigError, match=r"network\.scenes, training\.epochs differ"):
        train(path, resume=True)
    table = tmp_path / "photographs.csv"
    table.write_text(table.read_text().replace("train", "test", 1))
    with pytest.raises(ConfigError, match=r"data\.photographs differ"):
        train(path, resume=True, training__epochs="1", network__scenes="0")


def test_a_half_written_checkpoint_is_never_seen(tmp_path: Path) -> None:
    state = Checkpoint(3, {"a": 1}, {"w": torch.ones(2)}, {}, {"x": ("corrupt", "why")})
    state.save(tmp_path)
    (tmp_path / ".checkpoint.pt.part").write_bytes(b"half")  # what a kill leaves
    found = Checkpoint.load(tmp_path, {"a": 1})
    assert found.step == 3
    assert found.bad == {"x": ("corrupt", "why")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("training.batch=6", "batch 6 is no multiple of micro-batches of 4"),
        ("training.device=cuda", "no GPU"),
        ("data.partitions=none.parquet", "data.partitions: .*none.parquet"),
        ("data.photographs=none.csv", "none.csv: No such file"),
        ("data.folder=none", "none is no folder: data.folder"),
        ('data.train_splits=["no"]', "no row whose split"),
        ("network.image_size=32", "does not take pictures of 32 px"),
        ("network.heads=5", "width 12 is not a multiple of 5 heads"),
        ("weights.vit=none.safetensors", "none.safetensors: No such file"),
        ("weights.stem=package", "the network has no stem"),
        ("training.learning_rate=1e30", "the loss is (nan|inf)"),
        ("out=/dev/null/run", "out is a folder; /dev/null is a file"),
    ],
)
def test_what_is_wrong_is_said(change: str, says: str, tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    if change == "training.device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match=says):
        command.run(path, [change], resume=False)


def test_every_seed_that_is_taken_is_used(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    train(path, training__seed=str(2**63 - 1), training__epochs="1", network__scenes="0")
    assert (tmp_path / "run" / "network.safetensors").is_file()


@pytest.mark.parametrize("left", [0, 1000])
def test_a_damaged_checkpoint_is_named(left: int, tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    Checkpoint(3, {"a": 1}, {"w": torch.ones(2)}, {}, {}).save(tmp_path)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:left])
    for goes in (command.dry, command.run):
        with pytest.raises(UsageError, match=r"checkpoint\.pt cannot be read: "):
            goes(path, ["out=."], resume=True)


def test_a_file_name_with_a_nul_is_a_bad_picture(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    table = tmp_path / "photographs.csv"
    table.write_text(table.read_text().replace("3.png", "3\0.png"))
    assert command.run(path, ["network.scenes=0", "training.epochs=1"], resume=False) == 0
    bad = (tmp_path / "run" / "bad.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in bad] == [["3\0.png", "object_missing"]]


def test_without_a_segmentation_network_only_rgb_is_trained(tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    shutil.move(tmp_path / "segmentation.onnx", tmp_path / "away.onnx")
    text = path.read_text().replace('segmentation = "segmentation.onnx"\n', "")
    path.write_text(text)
    with pytest.raises(UsageError, match=r"data\.segmentation names no network"):
        command.run(path, (), resume=False)
    train(path, network__branches="rgb", network__scenes="0", training__epochs="1")
    assert (tmp_path / "run" / "network.safetensors").is_file()


def test_the_dry_run_tells_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = training_files.write(tmp_path)
    command.dry(path, ["training.micro_batch=2"])
    said = " ".join(capsys.readouterr().out.split())
    assert "to train on 10 photographs" in said
    assert "to validate on 2 photographs" in said
    assert "4 classes" in said
    assert "steps 10 of 4 photographs in each process 2 micro-batches of 2 a step" in said
    assert not (tmp_path / "run").exists()


def test_every_key_stands_in_the_docs_with_its_default() -> None:
    text = (PROJECT / "docs" / "training.md").read_text(encoding="utf-8")
    for section, model in config.Config.model_fields.items():
        for name, field in getattr(model.annotation, "model_fields", {}).items():
            default = "required" if field.is_required() else config.as_toml(field.default)
            assert f"| `{name}` | {default} | {field.description} |" in text, f"{section}.{name}"


def test_the_recipes_in_the_docs_are_configurations(tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "training.md").read_text(encoding="utf-8")
    recipes = [part.partition("```")[0] for part in text.split("```toml\n")[1:]]
    assert len(recipes) == 2
    for recipe in recipes:
        (tmp_path / "recipe.toml").write_text(recipe)
        chosen = config.load(tmp_path / "recipe.toml", ["training.seed=3"])
        assert chosen.training.seed == 3
        assert chosen.data.partitions.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["training.epochs=none"], r"training\.epochs: .*valid number"),
        (["training.layers=3"], r"training\.layers: Extra inputs"),
        (["network.layers=3"], "has no layers; it has coarse"),
        (["training"], "--set takes key=value"),
        (["out.x=3"], "out is no section"),
        (["data.fit=stretch"], r"data\.fit: .*'crop' or 'squash'"),
        (["training.epochs=inf"], r"training\.epochs: .*finite"),
        (["training.device=xyz"], r"training\.device: .*'auto', 'cpu' or 'cuda'"),
        (["training.seed=-1"], r"training\.seed: .*greater than or equal to 0"),
        (["training.seed=9223372036854775808"], r"training\.seed: .*less than 9223372036854775808"),
        (["augmentation.area=[0.9, 0.1]"], r"augmentation\.area: .*0 < smallest ≤ largest ≤ 1"),
        (["network.depth=-3"], "depth is a whole number from 0 on, not -3"),
        (["network.heads=0"], "heads is a whole number from 1 on, not 0"),
        (["network.dropout=2"], "dropout is a share from 0 to below 1"),
        (["network.mlp_ratio=-1"], "mlp_ratio makes the MLP at least 1 wide"),
        (["network.stem=efficientnet-lite0", "network.reductions=[0]"], "reductions are whole"),
        (["network.stem=efficientnet-lite0", "network.reductions=[]"], "reductions are some of"),
        (["out=config.toml"], "out is a folder; .*config.toml is a file"),
        ([f"out={'x' * 300}"], "out: .*File name too long"),
        (["data.cache=config.toml/maps"], "data.cache is a folder; .*config.toml is a file"),
    ],
)
def test_a_wrong_key_is_named(changes: list[str], says: str, tmp_path: Path) -> None:
    path = training_files.write(tmp_path)
    with pytest.raises(UsageError, match=says):
        command.dry(path, changes)


def test_pictures_come_from_s3_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """moto's S3 over HTTP; a missing object is a bad picture, as a missing file is.

    So is one that is replaced while it is read.

    With a ledger: tests/integration/test_training.py.
    """
    path = training_files.write(tmp_path)
    settings = {
        "S3_ENDPOINT": endpoint, "S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "s",
        "DATA_DIR": str(tmp_path / "no-ledger"),
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"GEOTAG_{name}", value)
    archive = S3Service(WorkerSettings())
    archive.ensure_bucket("bucket")
    for k in range(1, training_files.PHOTOGRAPHS):
        archive.upload("bucket", f"a/{k}.png", tmp_path / "photographs" / f"{k}.png")
    fixed = ["network.scenes=0", "training.epochs=1"]
    changes = [*fixed, "data.folder=s3://bucket/a", "out=s3", "data.processes=1"]
    fetch = S3Service.fetch

    def replaced(self: S3Service, obj: ArchiveObject, limit: int) -> Fetched:
        return fetch(self, replace(obj, etag="before") if obj.key == "a/1.png" else obj, limit)

    monkeypatch.setattr(S3Service, "fetch", replaced)
    assert command.run(path, changes, resume=False) == 0
    bad = (tmp_path / "s3" / "bad.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[:2] for line in bad) == [
        ["0.png", "object_missing"],
        ["1.png", "object_changed"],
    ]
    for k in (0, 1):
        (tmp_path / "photographs" / f"{k}.png").unlink()
    assert command.run(path, [*fixed, "out=folder"], resume=False) == 0
    ours, theirs = weights(tmp_path / "s3"), weights(tmp_path / "folder")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
