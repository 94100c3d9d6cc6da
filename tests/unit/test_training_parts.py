"""The parts of training: what varies, what is lost, what is kept, and how fast it learns."""

import io
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import training_files
from triton_models.networks.presets import preset
from triton_models.networks.translocator import Scores, TransLocator
from triton_models.training.augmentation import draw, recolour, unchanged, vary, warp
from triton_models.training.config import Augmentation, ConfigError, Training
from triton_models.training.examples import Examples, Positions
from triton_models.training.loss import WEIGHTS, counts, geolocation_loss, head_losses
from triton_models.training.optimiser import make_optimiser, rate_at, set_rate
from triton_models.training.photographs import HEADS, NO_LABEL, Photographs, read_rows, select
from triton_models.training.pictures import BadPicture, Pictures
from triton_models.training.semantics import ClassMaps, Segmenter

COLOURS = torch.tensor([[9, 9, 9], [250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=torch.uint8)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), rotation=st.sampled_from([0.0, 30.0, 180.0]))
def test_a_picture_and_its_map_are_warped_alike(seed: int, rotation: float) -> None:
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(0, 4, (2, 24, 24), dtype=np.uint8))
    painted = COLOURS[ids.long()].permute(0, 3, 1, 2).float()
    config = Augmentation(rotation=rotation)
    variation = torch.from_numpy(np.stack([draw(config, rng) for _ in range(2)]))
    picture = warp(painted, variation, 16, "nearest")
    warped = warp(ids[:, None].float(), variation, 16, "nearest")[:, 0].long()
    assert torch.equal(picture, COLOURS[warped].permute(0, 3, 1, 2).float())


def test_pixels_follow_the_same_grid_as_ids() -> None:
    """Ids as smooth pixels: what bilinear sampling finds is within a step of the nearest id."""
    rng = np.random.default_rng(3)
    ramp = torch.arange(64, dtype=torch.uint8).expand(64, 64)  # id = column
    image = torch.stack([ramp, ramp.T, ramp], dim=2)[None]
    config = Augmentation(rotation=20, colour=0)
    for _ in range(20):
        variation = torch.from_numpy(draw(config, rng))[None]
        pixels, ids = vary(image, ramp[None], variation, 48)
        assert ids is not None
        inside = (pixels[..., 0] - ids.float()).abs() <= 0.5 + 1e-3
        assert inside.float().mean() > 0.99  # mirrored edges apart


def test_the_plain_variations_are_exact() -> None:
    image = torch.randint(256, (1, 8, 8, 3), dtype=torch.uint8)
    ids = torch.randint(4, (1, 8, 8), dtype=torch.uint8)
    same, same_ids = vary(image, ids, torch.from_numpy(unchanged())[None], 8)
    torch.testing.assert_close(same, image.float(), atol=1e-3, rtol=0)
    assert same_ids is not None
    assert torch.equal(same_ids, ids)
    mirrored = torch.from_numpy(unchanged() * np.array([-1, 1, 1, 1, 1, 1, 1, 1, 1], np.float32))
    pixels, flipped = vary(image, ids, mirrored[None], 8)
    torch.testing.assert_close(pixels, image.float().flip(2), atol=1e-3, rtol=0)
    assert flipped is not None
    assert torch.equal(flipped, ids.flip(2))
    half, _ = vary(image, None, torch.from_numpy(unchanged(0.5))[None], 4)
    torch.testing.assert_close(half, image[:, 2:6, 2:6].float(), atol=1e-3, rtol=0)


def test_colours_change_as_told() -> None:
    pixels = torch.rand(1, 3, 4, 4) * 100
    by = unchanged()
    by[6] = 1.5
    torch.testing.assert_close(recolour(pixels, torch.from_numpy(by)[None]), pixels * 1.5)
    by = unchanged()
    by[8] = 0
    grey = recolour(pixels, torch.from_numpy(by)[None])
    torch.testing.assert_close(grey[:, 0], grey[:, 2])


def test_cuts_stay_inside_and_within_their_limits() -> None:
    rng = np.random.default_rng(0)
    config = Augmentation(area=(0.25, 0.8), aspect=1.5, mirror=0.5)
    drawn = np.array([draw(config, rng) for _ in range(500)])
    width, height = np.abs(drawn[:, 0]), drawn[:, 4]
    assert (np.abs(drawn[:, 2]) + width <= 1 + 1e-6).all()
    assert (np.abs(drawn[:, 5]) + height <= 1 + 1e-6).all()
    assert (width * height <= 0.8 + 1e-6).all()
    assert 0.4 < np.mean(drawn[:, 0] < 0) < 0.6


def scores(batch: int, seed: int = 0) -> Scores:
    g = torch.Generator().manual_seed(seed)
    return Scores(*(torch.randn(batch, n, generator=g) for n in (3, 5, 7, 3)))


def test_the_loss_is_the_weighted_mean_over_what_is_labelled() -> None:
    labels = torch.tensor([[0, 1, 6, 2], [2, -1, 3, -1], [-1, -1, -1, -1]])
    given_scores = scores(3)
    losses = head_losses(given_scores, labels)
    by_hand = []
    for head, logits in enumerate(given_scores):
        assert logits is not None
        p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=1, keepdims=True)
        known = [row for row in range(3) if labels[row, head] >= 0]
        by_hand.append(-np.mean([np.log(p[row, labels[row, head]]) for row in known]))
    np.testing.assert_allclose(losses.numpy(), by_hand, rtol=1e-5)
    expected = 0.5 * by_hand[0] + 0.3 * by_hand[1] + 0.2 * by_hand[2] + by_hand[3]
    assert float(geolocation_loss(given_scores, labels)) == pytest.approx(expected, rel=1e-5)


def test_without_labels_or_head_there_is_no_loss_and_no_gradient() -> None:
    given_scores = scores(2)._replace(scene=None)
    for logits in given_scores[:3]:
        assert logits is not None
        logits.requires_grad_()
    loss = geolocation_loss(given_scores, torch.full((2, 4), NO_LABEL))
    loss.backward()
    assert float(loss.detach()) == 0
    assert given_scores.coarse.grad is not None
    assert not given_scores.coarse.grad.any()


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 9))
def test_micro_batches_lose_what_their_whole_loses(sizes: list[int], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    whole = scores(sum(sizes), seed)
    labels = torch.randint(-1, 3, (sum(sizes), 4), generator=rng)
    labelled = counts(labels)
    parts = sum(
        head_losses(Scores(*part), label, labelled)
        for *part, label in zip(*(x.split(sizes) for x in (*whole, labels)), strict=True)
    )
    torch.testing.assert_close(parts, head_losses(whole, labels))
    assert WEIGHTS == (0.5, 0.3, 0.2, 1.0)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    config = Training(learning_rate=2.0, warmup=0.1)
    rates = [rate_at(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-2 * 2
    assert rate_at(0, 1, Training(warmup=0.0)) == Training().learning_rate


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_what_decays_and_what_learns_slower(name: str) -> None:
    sizes = {"coarse": 2, "middle": 2, "fine": 2, "segmentation_classes": 2}
    with torch.device("meta"):
        network = TransLocator(preset("hybrid", **sizes, depth=1))
    assert network.stem is not None
    config = Training.model_validate({"optimiser": name, "stem_rate": 0.1, "weight_decay": 0.3})
    optimiser = make_optimiser(network, config)
    set_rate(optimiser, 2.0)
    of = {
        id(p): (group["weight_decay"], group["lr"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    names = {n: of[id(p)] for n, p in network.named_parameters()}
    assert names["branches.0.cls_token"] == names["coarse.bias"] == (0.0, 2.0)
    assert names["coarse.weight"] == (0.3, 2.0)
    assert names["stem.network._conv_stem.weight"] == (0.3, 0.2)
    assert names["stem.network._bn0.weight"] == (0.0, 0.2)
    network.stem.freeze("all")
    frozen = make_optimiser(network, config)
    assert not any(n.startswith("stem.") and id(p) in {
        id(q) for group in frozen.param_groups for q in group["params"]
    } for n, p in network.named_parameters())  # fmt: skip


def test_positions_of_a_step_are_shared_out_once_each() -> None:
    """Steps 3 and 4 of a batch of 12: two processes, three micro-batches of 2 each."""
    parts = [list(Positions(3, 5, 2, 3, rank, 2)) for rank in range(2)]
    for step in range(2):
        of_step = [p for part in parts for batch in part[3 * step : 3 * step + 3] for p in batch]
        assert sorted(of_step) == list(range(12 * (3 + step), 12 * (4 + step)))


def test_every_epoch_sees_every_photograph_once_in_another_order() -> None:
    photographs = Photographs(
        tuple(map(str, range(7))), np.zeros(7), np.zeros(7), np.zeros((7, 4), np.int64)
    )
    pixels = np.zeros((4, 4, 3), np.uint8)
    pictures = Pictures(lambda _: b"", lambda _: pixels)
    examples = Examples(photographs, pictures, None, 4, seed=5, variation=Augmentation())
    order = [int(examples[position].index) for position in range(21)]
    epochs = [order[k : k + 7] for k in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = Examples(photographs, pictures, None, 4, seed=5, variation=Augmentation())
    assert torch.equal(again[17].variation, examples[17].variation)
    assert not torch.equal(examples[17].variation, examples[18].variation)


def test_a_bad_picture_is_grey_and_teaches_nothing() -> None:
    def decode(_: bytes) -> np.ndarray:
        raise BadPicture("corrupt", "the bytes contradict themselves")

    photographs = Photographs(("a",), np.zeros(1), np.zeros(1), np.zeros((1, 4), np.int64))
    examples = Examples(photographs, Pictures(lambda _: b"", decode), None, 4)
    batch = examples[0]
    assert batch.bad == [("a", "corrupt", "the bytes contradict themselves")]
    assert batch.labels.tolist() == [[-1] * 4]
    assert batch.image.unique().tolist() == [127]


def test_labels_come_from_cells_and_names(tmp_path: Path) -> None:
    training_files.write(tmp_path)
    rows = read_rows(tmp_path / "photographs.csv")
    cells = training_files.hierarchy(np.array([[row.longitude, row.latitude] for row in rows]).T)
    chosen = select(rows, {"train"}, cells, training_files.SCENES)
    assert len(chosen) == 10
    for level, partition in enumerate(cells.partitions):
        own = partition.locate(chosen.longitude, chosen.latitude)
        assert (own >= 0).all()
        assert own.tolist() == chosen.labels[:, level].tolist()
    names = {f"{k}.png": k % 4 - 1 for k in range(12)}  # the first of four has no scene
    assert [names[file] for file in chosen.files] == chosen.labels[:, HEADS.index("scene")].tolist()
    with pytest.raises(ConfigError, match="'indoor' is none of"):
        select(rows, {"train"}, cells, ("sea",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,latitude\n", "no column lon or longitude"),
        ("file,lat,latitude,longitude\n", "several columns lat or latitude"),
        ("file,latitude,longitude\na.jpg,1,x\n", "line 2: no position: longitude x"),
        ("file,latitude,longitude\na.jpg,95,1\n", "line 2: no position: .*latitude 95"),
        ("file,latitude,longitude\n,5,1\n", "line 2: no file"),
        ("file,latitude,longitude\na.jpg,5\n", "line 2: fewer cells"),
    ],
)
def test_a_bad_table_is_named_by_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_rows(path)


def test_the_published_tables_load_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mp16.csv"
    path.write_text("IMG_ID,AUTHOR,LAT,LON,S3_Label,S16_Label\n3a/b.jpg,x@N0,48.5,-2.25,2,14\n")
    (row,) = read_rows(path)
    assert (row.file, row.longitude, row.latitude) == ("3a/b.jpg", -2.25, 48.5)
    cells = training_files.hierarchy(np.array([[-2.25, 9.0], [48.5, 9.0]]))
    labels = select([row], {""}, cells, training_files.SCENES).labels
    assert labels[0, HEADS.index("scene")] == 2


def kept(folder: Path) -> tuple[ClassMaps, Pictures, Segmenter, list[str]]:
    """No maps yet, a way to pictures, a network; and the files that were asked for."""
    training_files.write(folder)
    asked: list[str] = []

    def fetch(file: str) -> bytes:
        asked.append(file)
        return (folder / "photographs" / file).read_bytes()

    def decode(data: bytes) -> np.ndarray:
        if data == b"bad":
            raise BadPicture("corrupt", "bad")
        return np.asarray(Image.open(io.BytesIO(data)))

    segmenter = Segmenter(folder / "segmentation.onnx")
    maps = ClassMaps(folder / "cache", segmenter.sha256, "crop", training_files.SIZE)
    return maps, Pictures(fetch, decode), segmenter, asked


def test_class_maps_are_made_once_and_kept(tmp_path: Path) -> None:
    maps, pictures, segmenter, asked = kept(tmp_path)
    assert segmenter.classes == training_files.CLASSES
    (tmp_path / "photographs" / "3.png").write_bytes(b"bad")
    files = [f"{k}.png" for k in range(training_files.PHOTOGRAPHS)]
    made: list[int] = []
    maps.make(files, pictures, segmenter, source="here", made=made.append)
    assert sum(made) == len(files)
    assert len(maps) == len(files) - 1
    sha256, pixels = pictures.read("5.png")
    assert np.array_equal(maps.get(sha256), pixels[..., 0] // 64)
    with pytest.raises(KeyError):
        maps.get(b"\xff" * 32)
    asked.clear()
    again = ClassMaps(tmp_path / "cache", segmenter.sha256, "crop", training_files.SIZE)
    again.make(files, pictures, segmenter, source="here", writer=1)
    assert asked == ["3.png"]  # the bad one is tried again
    assert np.array_equal(again.get(sha256), pixels[..., 0] // 64)
    # The same bytes under another name, in another place, have their map already.
    again.make(files, pictures, segmenter, source="there", writer=1)
    assert len(again) == len(files) - 1


def test_a_map_without_its_key_is_cut_off(tmp_path: Path) -> None:
    """What a kill between the two writes leaves behind."""
    maps, pictures, segmenter, _ = kept(tmp_path)
    maps.make(["0.png", "1.png"], pictures, segmenter, source="here")
    with (maps.folder / "maps-0.bin").open("ab") as file:
        file.write(b"\x03" * (training_files.SIZE**2 + 7))
    with (maps.folder / "keys-0.bin").open("ab") as file:
        file.write(b"\x03" * 31)
    maps.make(["0.png", "1.png", "2.png"], pictures, segmenter, source="here")
    for file in ("0.png", "1.png", "2.png"):
        sha256, pixels = pictures.read(file)
        assert np.array_equal(maps.get(sha256), pixels[..., 0] // 64)


def test_what_is_no_segmentation_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Segmenter(tmp_path / "none.onnx")
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    (tmp_path / "x.json").write_text('{"classes": ["a"]}')
    with pytest.raises(ConfigError, match="no segmentation network"):
        Segmenter(tmp_path / "x.onnx")
    training_files.write_segmenter(tmp_path / "y.onnx")
    assert Segmenter(tmp_path / "y.onnx").takes(16)
    assert not Segmenter(tmp_path / "y.onnx").takes(32)


def test_warm_up_of_one_step_is_a_step() -> None:
    assert math.isclose(rate_at(0, 10, Training(warmup=0.01)), Training().learning_rate)
