"""Training of the segmentation student: the teacher's votes, the split, the loop, the scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from triton_models.segmentation import scoring, training
from triton_models.segmentation.classes import CLASSES, MEMBERS, SMOOTHING, target
from triton_models.segmentation.maps import Maps
from triton_models.segmentation.overlays import COLOURS, contact_sheet, overlay
from triton_models.segmentation.photographs import (
    Photograph,
    Unusable,
    digest,
    listed,
    read,
    readable,
)
from triton_models.segmentation.teacher import CITYSCAPES, VIEWS, Teacher, maps

SIDE = 2 * SMOOTHING  # of the maps below, which are constant


def answer(*views: str) -> str:
    """Return the target class if the teacher's views answer these classes."""
    ids = [np.full((SIDE, SIDE), CITYSCAPES.index(name), np.uint8) for name in views]
    (taught,) = np.unique(target(np.stack(ids)))
    return CLASSES[taught]


class TestClasses:
    def test_every_class_of_the_teacher_maps_to_one_of_ours(self) -> None:
        assert sorted(name for names in MEMBERS.values() for name in names) == sorted(CITYSCAPES)

    def test_one_view_may_differ(self) -> None:
        assert answer("road", "sidewalk", "road", "car") == "flat"
        assert answer("road", "road", "car", "car") == "unknown"

    def test_half_the_votes_make_sky_against_buildings_alone(self) -> None:
        assert answer("sky", "sky", "building", "building") == "sky"
        assert answer("sky", "building", "building", "building") == "construction"
        assert answer("sky", "sky", "road", "road") == "unknown"

    def test_people_need_every_vote(self) -> None:
        assert answer("person", "person", "rider", "person") == "human"
        assert answer("person", "person", "person", "building") == "unknown"

    def test_signs_are_not_taught(self) -> None:
        assert answer(*["traffic sign"] * 4) == "unknown"

    def test_slivers_vanish(self) -> None:
        ids = np.full((len(VIEWS), 32, 32), CITYSCAPES.index("sky"), np.uint8)
        ids[:, :, 16] = CITYSCAPES.index("building")
        assert set(np.unique(target(ids))) == {CLASSES.index("sky")}


class Position:
    """A teacher that returns the brightness of each pixel."""

    size = 40

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture[..., 1] // 16


def test_every_view_is_mapped_back_to_the_picture() -> None:
    ramp = np.tile(np.linspace(0, 150, 40, dtype=np.uint8)[:, None, None], (1, 40, 3))
    for picture in (ramp, ramp.transpose(1, 0, 2)):
        found = maps(Position(), np.ascontiguousarray(picture)).astype(int)
        assert found.shape == (len(VIEWS), 40, 40)
        plain, bright = picture[..., 1].astype(int) // 16, picture[..., 1] * 1.3 // 16
        assert np.abs(found[0] - plain).max() <= 1
        for view in found[1:]:
            assert np.abs(view - bright).max() <= 2


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    from triton_models.segmentation import student

    for name in ("teacher.tflite", "student.pt"):
        (tmp_path / name).write_text("text")
    (tmp_path / "student.json").write_text('{"config": {"classes": 8}}')
    with pytest.raises(Unusable, match=r"teacher\.tflite: no TFLite network"):
        Teacher(tmp_path / "teacher.tflite")
    with pytest.raises(Unusable, match=r"student\.pt: no weights"):
        student.load(tmp_path / "student.pt")


class TestPhotographs:
    def test_bad_pictures_are_skipped(self, tmp_path: Path) -> None:
        Image.new("RGB", (30, 20), "red").save(tmp_path / "good.png")
        (tmp_path / "bad.png").write_bytes(b"no picture")
        (tmp_path / "metadata.csv").write_text("file\ngood.png\nbad.png\nmissing.png\n")
        photographs = listed(tmp_path)
        assert [photo.series for photo in photographs] == ["good.png", "bad.png", "missing.png"]
        found = [picture for _, picture in readable(tmp_path, photographs, 16)]
        assert found[0] is not None
        assert found[0].shape == (16, 16, 3)
        assert found[1:] == [None, None]

    def test_a_picture_is_turned_upright(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (8, 4), "black")
        image.paste("white", (0, 0, 4, 4))  # the left half
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90° clockwise: left becomes top
        image.save(tmp_path / "turned.png", exif=exif)
        pixels = read(tmp_path / "turned.png", 8)
        assert pixels[:2].mean() > 200
        assert pixels[-2:].mean() < 55

    def test_a_folder_without_its_table_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Unusable, match=r"metadata\.csv is missing"):
            listed(tmp_path)
        (tmp_path / "metadata.csv").write_text("name\nx.jpg\n")
        with pytest.raises(Unusable, match="column `file`"):
            listed(tmp_path)

    def test_the_digest_is_that_of_the_names_in_any_order(self) -> None:
        one, two = Photograph("a.jpg", "s"), Photograph("b.jpg", "t")
        assert digest([one, two]) == digest([two, one]) != digest([one])


def test_maps_come_back_from_their_file(tmp_path: Path) -> None:
    ids = np.arange(2 * 4 * 3 * 3, dtype=np.uint8).reshape(2, 4, 3, 3)
    Maps(["a.jpg", "b.jpg"], ids, "abc").save(tmp_path / "maps.npz")
    found = Maps.load(tmp_path / "maps.npz")
    assert (found.files, found.teacher_sha256, found.size) == (["a.jpg", "b.jpg"], "abc", 3)
    assert np.array_equal(found.ids, ids)
    assert found.rows([Photograph("c.jpg", ""), Photograph("b.jpg", "")]) == [
        (Photograph("b.jpg", ""), 1)
    ]
    with pytest.raises(Unusable, match="made of this folder"):
        found.rows([Photograph("c.jpg", "")])
    (tmp_path / "other.npz").write_text("text")
    with pytest.raises(Unusable, match="not a file that `teach` wrote"):
        Maps.load(tmp_path / "other.npz")


class TestTraining:
    def test_a_series_is_on_one_side(self) -> None:
        photographs = [Photograph(f"{k}.jpg", f"series {k % 50}") for k in range(500)]
        sides: dict[str, set[bool]] = {}
        for photo in photographs:
            sides.setdefault(photo.series, set()).add(training.held_out(photo))
        assert {len(found) for found in sides.values()} == {1}
        assert 0 < sum(map(training.held_out, photographs)) < 250

    def test_picture_and_ids_are_cropped_alike(self) -> None:
        """Class ids that equal the picture equal it after cropping and mirroring too."""
        blocks = np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((16, 16), np.uint8))
        recipe = training.Recipe(views=8)
        found = list(training.views(np.stack([blocks * 16] * 3, axis=-1), blocks, recipe, key=1))
        assert len(found) == 8
        for pixels, ids in found:
            assert pixels.shape == (64, 64, 3)
            correlation = np.corrcoef(pixels.mean(axis=-1).ravel(), ids.ravel())[0, 1]
            assert correlation > 0.97
        assert not np.array_equal(found[1][1], found[2][1])

    @given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 9))
    def test_a_batch_has_one_view_of_each_of_its_pictures(
        self, pictures: int, views: int, batch: int
    ) -> None:
        recipe = training.Recipe(views=views, batch=batch)
        order = torch.Generator().manual_seed(0)
        batches = training._batches(pictures * views, recipe, order)
        seen = [int(row) // views for rows in batches for row in rows]
        assert len(set(seen)) == len(seen)
        assert len(seen) >= pictures - min(batch, pictures) + 1

    def test_weights_are_one_on_average_and_favour_the_rare(self) -> None:
        ids = torch.tensor([0] * 90 + [1] * 10, dtype=torch.uint8)
        weights = training.class_weights(ids, 3, rare=0.5)
        assert weights[2] == 0
        assert weights[1] == pytest.approx(3 * weights[0].item())
        assert 0.9 * weights[0] + 0.1 * weights[1] == pytest.approx(1)

    def test_it_learns_and_the_same_seed_gives_the_same_weights(self, tmp_path: Path) -> None:
        from triton_models.segmentation import student

        random = np.random.default_rng(0)
        pictures, targets = [], []
        for _ in range(4):  # grass below, sky above, the horizon anywhere
            horizon = random.integers(64, 192)
            ids = np.full((256, 256), CLASSES.index("terrain"), np.uint8)
            ids[:horizon] = CLASSES.index("sky")
            sky = (ids == CLASSES.index("sky"))[..., None]
            pictures.append(np.where(sky, (120, 170, 240), (60, 140, 40)).astype(np.uint8))
            targets.append(ids)
        recipe = training.Recipe(views=1, epochs=30, batch=2)
        said: list[tuple[str, int, int]] = []
        trained = []
        for _ in range(2):
            network = student.untrained(recipe.seed)
            seen = training.encode(network, pictures, targets, recipe, lambda *x: said.append(x))
            losses = training.train(network, seen, recipe, lambda *x: said.append(x))
            trained.append(network)
        assert losses[-1] < 0.5 * losses[0]
        assert said[-1] == ("train", 60, 60)
        one, two = (network.state_dict() for network in trained)
        assert all(torch.equal(one[name], two[name]) for name in one)

        student.save(network, tmp_path / "s.pt", {"photographs": 4})
        document = json.loads((tmp_path / "s.json").read_text())
        assert tuple(document["classes"]) == CLASSES
        again = student.load(tmp_path / "s.pt").state_dict()
        assert all(torch.equal(one[name], again[name]) for name in one)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # torch.export's own
def test_the_exported_student_is_one_that_a_locator_can_be_trained_with(tmp_path: Path) -> None:
    from triton_models.networks.segmentation import ServedSegmentation
    from triton_models.segmentation import student
    from triton_models.training.semantics import Segmenter

    network = student.untrained(seed=1)
    student.save(network, tmp_path / "student.pt", {})
    segmenter = Segmenter(student.export(tmp_path / "student.pt"))
    assert segmenter.classes == CLASSES
    pictures = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    with torch.inference_mode():
        ids = ServedSegmentation(network).eval()(torch.from_numpy(pictures)).numpy()
    assert (segmenter(pictures) == ids).mean() > 0.999
    assert len(np.unique(ids)) > 1


IDS = arrays(np.uint8, (6, 6), elements=st.integers(0, 3))


class TestScores:
    @given(IDS, IDS)
    def test_bounds_and_symmetry(self, truth: np.ndarray, answer: np.ndarray) -> None:
        names = ("a", "b", "c", "d")
        one, two = scoring.Agreement(names), scoring.Agreement(names)
        one.add(truth, answer)
        two.add(answer, truth)
        assert np.array_equal(one.iou, two.iou, equal_nan=True)
        assert 0 <= one.mean_iou <= 1
        assert one.accuracy == pytest.approx(float((truth == answer).mean()))
        assert (one.mean_iou == 1) == np.array_equal(truth, answer)

    def test_a_known_case(self) -> None:
        found = scoring.Agreement(("a", "b", "c"))
        found.add(np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 1, 1], np.uint8))
        assert found.iou[:2] == pytest.approx([1 / 2, 2 / 3])
        assert np.isnan(found.iou[2])
        assert found.mean_iou == pytest.approx(7 / 12)
        assert "| c | 0.000 | 0.000 |  |  |" in scoring.table(found, found)

    def test_the_trivial_answer_is_the_commonest_at_each_position(self) -> None:
        maps = [np.array([[0, 1]], np.uint8), np.array([[2, 1]], np.uint8)]
        assert scoring.commonest([*maps, maps[1]], 3).tolist() == [[2, 1]]


def test_an_overlay_shows_the_picture_where_nothing_is_known() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    ids = np.zeros((4, 4), np.uint8)
    ids[0] = CLASSES.index("sky")
    laid = overlay(picture, ids)
    assert (laid[1:] == 100).all()
    assert (laid[0] != 100).any()
    assert len(COLOURS) == len(CLASSES)
    assert contact_sheet([[laid, laid]] * 3, CLASSES).size == (8, 32)
