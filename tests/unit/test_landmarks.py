from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import evidence
from triton_models.cells.s2cells import ids_of, levels
from triton_models.fitting.reliability import calibration_error
from triton_models.landmarks import evaluation, figures
from triton_models.landmarks.familiarity import SIGNS, Familiarity, fit_weights
from triton_models.landmarks.heldout import Answers
from triton_models.landmarks.learning import Recipe, learn, network_of
from triton_models.landmarks.memory import Bytes, Memory
from triton_models.landmarks.photographs import Photographs, read_photographs, read_pixels
from triton_models.landmarks.releasing import fit
from triton_models.landmarks.served import NOTHING, ServedLandmarks
from triton_models.landmarks.views import (
    STEMS,
    Seen,
    Views,
    frozen_stem,
    make_views,
    pooled,
    read_views,
    varied,
)
from triton_models.landmarks.world import LEVEL, world_with
from triton_models.networks.preprocessing import Normalise
from triton_models.release.release import RELEASES


@pytest.fixture
def photographs(tmp_path) -> Photographs:
    rng = np.random.default_rng(0)
    place = np.repeat([0, 1, 2], 20)
    return Photographs(
        folder=tmp_path,
        files=tuple(f"{k}.jpg" for k in range(60)),
        titles=tuple(f"{k}.jpg" for k in range(60)),
        series=np.array([f"series {k}" for k in rng.integers(15, size=60)]),
        places=("Bridge", "Falls from afar", "Falls"),
        place=place,
        longitude=np.array([-122.4783, -79.07, -79.0757]),
        latitude=np.array([37.8199, 43.0849, 43.0773]),
    )


def test_no_series_is_cut_and_every_photograph_is_held_out_once(photographs):
    fold = photographs.folds()
    assert set(fold) == set(range(5))
    for series in set(photographs.series):
        assert len(set(fold[photographs.series == series])) == 1


def test_near_places_are_one_site(photographs):
    bridge, afar, falls = photographs.sites
    assert afar == falls != bridge


def test_the_photographs_of_a_place_share_a_position(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        "file,place,latitude,longitude,series,commons_title\n"
        "a.jpg,Tower,48.8584,2.2945,s,A.jpg\nb.jpg,Tower,48.8585,2.2945,s,B.jpg\n"
    )
    with pytest.raises(ValueError, match="Tower has more than one position"):
        read_photographs(tmp_path)


def test_pictures_of_another_size_are_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (256, 255)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="not 256 × 256 px"):
        read_pixels(tmp_path / "a.png")


def test_the_workers_decoder_gives_the_same_pixels(shared):
    from workers.photo.reading import InputSpec, PhotoLimits, read_photo

    found = read_photographs(shared / "photos" / "landmarks")
    for file in found.files[::100]:
        path = found.folder / file
        photo = read_photo(
            path.read_bytes(), InputSpec(256, 256, "squash"), PhotoLimits(10**7, 10**7, 60)
        )
        np.testing.assert_array_equal(photo.pixels, read_pixels(path))


def test_there_are_twelve_sites(shared):
    found = read_photographs(shared / "photos" / "landmarks")
    assert (len(found), len(found.places), len(set(found.sites))) == (1422, 19, 12)


def test_every_place_has_its_own_fine_cell_and_the_world_stays_covered(photographs):
    hierarchy, known = world_with(
        photographs.longitude, photographs.latitude, np.bincount(photographs.place)
    )
    fine = hierarchy.fine
    own = known[:, 2]
    assert len(set(own.tolist())) == 3
    np.testing.assert_allclose(fine.longitude[own], photographs.longitude)
    np.testing.assert_array_equal(fine.photographs[own], [20, 20, 20])
    assert (levels(ids_of(fine.tokens[k] for k in own)) >= LEVEL).all()
    assert not len(fine.means_outside())
    # Buffalo is next to the falls and Tokyo far from any site. Both were in the gazetteer's cells.
    assert (fine.locate([-78.8784, 139.6917], [42.8864, 35.6895]) >= 0).all()
    assert (hierarchy.fine_to_coarse >= 0).all()
    assert (hierarchy.fine_to_middle >= 0).all()


def test_a_view_has_the_size_of_its_picture_and_is_made_again_by_the_same_seed():
    picture = np.random.default_rng(1).integers(256, size=(256, 256, 3), dtype=np.uint8)
    one, two = (varied(picture, np.random.default_rng(7)) for _ in range(2))
    assert one.shape == picture.shape
    np.testing.assert_array_equal(one, two)


def test_views_are_made_once_and_read_back(tmp_path):
    network = tmp_path / "segmentation.onnx"
    network.write_bytes((RELEASES / "untrained" / "segmentation.onnx").read_bytes())
    network.with_suffix(".json").write_text('{"classes": ["a", "b", "c", "d", "e", "f", "g", "h"]}')
    picture = np.random.default_rng(1).integers(256, size=(1, 256, 256, 3), dtype=np.uint8)
    assert len(list(make_views(picture, network, 2, tmp_path / "views"))) == 2
    views = read_views(tmp_path / "views")
    assert (views.count, views.classes) == (2, 8)
    both, first = np.array([0, 1]), np.array([0, 0])
    assert tuple(views.class_ids(both, first).shape) == (2, 64, 64)
    for stem, (name, seen) in enumerate(zip(STEMS, views.seen, strict=True)):
        maps = views.maps(stem, both, first)
        assert tuple(maps.shape) == (2, 1280, 8, 8)
        np.testing.assert_allclose(maps.mean(dim=(2, 3)), seen.means[:, 0], atol=1e-3)
        np.testing.assert_allclose(pooled(maps), seen.pooled[:, 0], atol=1e-3)
        assert not np.allclose(maps[0], maps[1])
        with torch.inference_mode():  # the served network gets the same pixels
            (served,) = frozen_stem(name)(Normalise("lite")(torch.from_numpy(picture)))
        np.testing.assert_allclose(maps[:1], served, atol=0.01)


def clusters(count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Mean features of three places: 300 dimensions, of which the first separates the places."""
    rng = np.random.default_rng(2)
    place = np.repeat(np.arange(3), count)
    means = rng.normal(1, 0.1, size=(3 * count, 300)).astype(np.float32)
    means[np.arange(3 * count), place] += 3
    return means, place


def remembered(means: np.ndarray, place: np.ndarray, places: int = 3) -> Memory:
    """A memory for which the pooled maps of the stem are the means."""
    return Memory(means, means, place, places)


def test_pictures_like_a_place_are_more_familiar_than_others():
    means, place = clusters()
    memory = remembered(means[::2], place[::2])
    rng = np.random.default_rng(3)
    strange = rng.normal(1, 0.5, size=(40, 300)).astype(np.float32)

    def signs(x):
        one = memory(torch.from_numpy(x), torch.from_numpy(x))[1]
        return torch.cat([one, torch.zeros(len(x), 1)], dim=1)

    home, away = signs(means[1::2]), signs(strange)
    familiarity = Familiarity()
    weights = fit_weights(home.numpy(), away.numpy(), np.arange(40) % 4)
    assert len(weights) == SIGNS + 1
    familiarity.weights.copy_(torch.from_numpy(weights))
    assert familiarity(home).min() > 0 > familiarity(away).max()


def test_no_release_is_made_where_a_sign_speaks_against_the_familiar(photographs, tmp_path):
    rng = np.random.default_rng(6)
    count = len(photographs)
    home, away = rng.normal(1, 0.1, (count, SIGNS)), rng.normal(0, 0.1, (count, SIGNS))
    home[:, 1], away[:, 1] = away[:, 1], home[:, 1].copy()
    for name, signs in (("folds_0", home), ("strangers", away)):
        found = Answers.empty(count, (1, 1, 1, 3))
        replace(found, signs=signs.astype(np.float32)).save(tmp_path / f"{name}.npz")
    study = SimpleNamespace(photographs=photographs)
    with pytest.raises(ValueError, match=r"^typicality would speak against the familiar"):
        fit(study, tmp_path)


def test_memory_names_the_place_of_the_nearest_photograph():
    means, place = clusters()
    memory = remembered(means[::2], place[::2], places=4)
    asked = torch.from_numpy(means[1::2])
    nearest, signs = memory(asked, asked)
    np.testing.assert_array_equal(nearest.argmax(dim=1), place[1::2])
    assert nearest[:, 3].max() < -2  # a place without remembered photographs
    itself = torch.from_numpy(means[::2])
    assert memory(itself, itself)[1][:, 0].min() > 0.999
    assert signs[:, 0].max() < 1


def test_int8_features_suffice_for_a_cosine():
    rows = torch.rand(50, 1280, generator=torch.Generator().manual_seed(0)) ** 3
    kept = Bytes(rows)()
    unit, kept_unit = (torch.nn.functional.normalize(x) for x in (rows, kept))
    torch.testing.assert_close(kept_unit @ kept_unit.T, unit @ unit.T, rtol=0, atol=1e-3)


def test_cells_without_a_place_get_nothing_and_the_level_shows_familiarity():
    means, place = torch.rand(12, 1280).numpy(), np.arange(12) % 3
    members = [
        network_of(Recipe(width=8), stem, (2, 3, 3), segmentation_classes=4).eval()
        for stem in STEMS
    ]
    known = torch.tensor([[0, 1, 9], [4, 5, 6], [4, 7, 2]])
    memories = [remembered(means, place) for _ in STEMS]
    network = ServedLandmarks([], members, memories, known, (5, 8, 11), 4).eval()
    network.familiarity.weights[-1] = -2.5
    maps, semantics = [[torch.rand(2, 1280, 8, 8)] * 2] * 3, [torch.zeros(2, 4, 64, 64)] * 2
    with torch.inference_mode():
        coarse, middle, fine, scene = network.from_maps(maps, semantics)
    assert [tuple(x.shape) for x in (coarse, middle, fine, scene)] == [
        (2, 1, n) for n in (5, 8, 11, 3)
    ]
    empty = np.setdiff1d(np.arange(11), known[:, 2])
    torch.testing.assert_close(fine[0, 0, empty], torch.full((8,), -NOTHING - 2.5))
    assert evidence(fine[0].numpy()) == pytest.approx(-2.5, abs=1e-4)
    np.testing.assert_allclose(coarse.exp().sum(dim=2), 1, atol=1e-5)


def test_a_network_learns_and_does_so_the_same_way_twice():
    rng = np.random.default_rng(4)
    place = np.repeat(np.arange(2), 12)
    maps = rng.random((2, 24, 1280, 8, 8)).astype(np.float16)
    maps[:, np.arange(24), place] += 2
    means = maps.mean(axis=(3, 4), dtype=np.float32)
    views = Views((Seen(maps, means, means),), np.zeros((2, 24, 64, 64), np.uint8), 4)
    labels = np.stack([place, place, place, np.full(24, -1)], axis=1)
    labels[0, 3], labels[12, 3] = 0, 2
    recipe = Recipe(width=8, epochs=1, batch=8)
    first, second = (learn(views, 0, labels, np.arange(24), recipe, seed=5) for _ in range(2))
    for a, b in zip(first.fine.parameters(), second.fine.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with torch.inference_mode():
        scores = first.from_features(
            [torch.from_numpy(maps[0].astype(np.float32))], torch.zeros(24, 4, 64, 64)
        )
    np.testing.assert_array_equal(scores.fine.argmax(dim=1), place)


def test_a_difference_is_paired_and_its_interval_covers_it(photographs):
    first = np.ones(60, np.bool_)
    second = np.arange(60) % 4 > 0
    found = figures.difference(photographs, first, second)
    assert (found.points, found.only_first, found.only_second) == (25.0, 15, 0)
    assert 0 < found.low < 25 < found.high
    assert figures.difference(photographs, first, first).high == 0


def test_whole_series_are_drawn():
    flags = np.repeat([1.0, 0.0], 30)
    alone = figures.share_interval(np.arange(60), flags)
    together = figures.share_interval(np.arange(60) // 10, flags)
    assert 0 <= together[0] < alone[0] < 0.5 < alone[1] < together[1] <= 1
    assert figures.share_interval(np.arange(60) // 10, np.ones(60)) == (1, 1)


def test_the_interval_of_a_calibration_error_is_of_the_same_bins():
    rng = np.random.default_rng(6)
    confidence = rng.random(400)
    right = rng.random(400) < confidence**2
    low, high = figures.calibration_interval(np.arange(400), confidence, right)
    assert low < calibration_error(confidence, right) < high
    one = figures.calibration_interval(np.zeros(400), confidence, right)
    assert one == pytest.approx([calibration_error(confidence, right)] * 2, abs=1e-4)


def test_nothing_is_fitted_on_the_fold_that_it_judges(photographs, monkeypatch):
    number = np.arange(len(photographs))
    known, strange = (
        Answers(*[number[:, None]] * 5) for _ in range(2)
    )  # each fold carries its own identity
    weighed, judged = set(), []

    def fit_weights(home, away, site):
        assert len(site) == len(away)
        weighed.clear()
        weighed.update(home[:, 0], away[:, 0])

    def scored(study, answers, weights):
        return [SimpleNamespace(coarse=k, middle=k, fine=k) for k in number]

    def fit_decoder(study, home, away, base):
        used = weighed | {said.coarse for said in (*home, *away)}

        def decode(k, *_):
            assert k not in used
            judged.append(k)
            return SimpleNamespace(position=(0.0, 0.0))

        return SimpleNamespace(decode=decode)

    for fake in (fit_weights, scored, fit_decoder):
        monkeypatch.setattr(evaluation, fake.__name__, fake)
    evaluation.judge(SimpleNamespace(photographs=photographs), known, strange, Calibration())
    assert sorted(judged) == sorted([*number, *number])


def test_the_prior_weighs_more_the_less_familiar_a_picture_is():
    calibration = Calibration(prior_weight=0.1, familiarity=(2.0, -1.0))
    shares = [calibration.prior_share(e) for e in (-1000.0, -1.0, 0.5, 3.0, 1000.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] == pytest.approx(0.1 + 0.9 / 2)
    assert (shares[0], shares[-1]) == (1.0, pytest.approx(0.1))
    assert Calibration(prior_weight=0.1).prior_share(-1000.0) == 0.1


@pytest.mark.parametrize(
    ("confidence", "share", "reason"),
    [(0.6, 0.9, ""), (0.4, 0.9, "unlike_training"), (0.4, 0.2, "too_little_evidence")],
)
def test_an_abstention_states_whether_the_picture_is_familiar(confidence, share, reason):
    stated = np.full(5, confidence, np.float32)
    assert Calibration(abstain_below=0.5).abstention(stated, share) == reason
