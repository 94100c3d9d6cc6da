"""Decode logits to answers: by hand on four cells, and by simulation on 12,893."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import REGION_LEVELS, Decoder
from triton_models.answer.radii import RADII_KM
from triton_models.cells import s2cells
from triton_models.cells.distance import Floats, from_vectors, great_circle_km
from triton_models.cells.geocells import Hierarchy, Partition, overlaps
from triton_models.cells.partitioning import Limits, build_hierarchy
from triton_models.cells.published import load_hierarchy

PUBLISHED = Path(__file__).parents[3] / "shared" / "partitions"
SCENE = np.zeros((1, 3), np.float32)


def partition(name: str, *tokens: str, spread: float = 10.0) -> Partition:
    longitude, latitude = from_vectors(s2cells.centres(s2cells.ids_of(tokens)))
    n = len(tokens)
    return Partition(name, tokens, longitude, latitude, np.arange(1, n + 1), np.full(n, spread))


@pytest.fixture(scope="module")
def small() -> Hierarchy:
    return Hierarchy(
        partition("coarse", "89c", "47e4"),
        partition("middle", "47e4", "89c4", "89cc"),
        partition("fine", "89c24", "89c4c", "89cc", "47e04"),
    )


def logits(*rows: list[float]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return the logarithms of probabilities, one row for each crop."""
    return np.log(np.array(rows, np.float32))


def test_f_star_by_hand(small: Hierarchy) -> None:
    """Fine × middle × coarse: 89c24 and 89c4c are in 89c4, 89cc is in 89cc, 47e04 in 47e4.

    0.1·0.2·0.6 = 0.012, 0.2·0.2·0.6 = 0.024, 0.3·0.3·0.6 = 0.054, 0.4·0.5·0.4 = 0.080: of 0.170.
    """
    decoder = small.decoder()
    args = logits([0.6, 0.4]), logits([0.5, 0.2, 0.3]), logits([0.1, 0.2, 0.3, 0.4])
    p = decoder.distribution(*args)
    np.testing.assert_allclose(p, np.array([12, 24, 54, 80]) / 170, rtol=1e-6)

    answer = decoder.decode(*args, logits([0.2, 0.3, 0.5]))
    assert answer.cells.tolist() == ["47e4", "47e4", "47e04"]
    np.testing.assert_allclose(answer.cell_probabilities, [80 / 170] * 3, rtol=1e-6)
    assert answer.position.tolist() == [small.fine.longitude[3], small.fine.latitude[3]]
    assert answer.candidate_cells.tolist() == ["47e04", "89cc", "89c4c", "89c24"] + [""] * 6
    np.testing.assert_allclose(
        answer.candidate_probabilities[:5], [80 / 170, 54 / 170, 24 / 170, 12 / 170, 0], rtol=1e-6
    )
    # 80 + 54 = 134 of 170 is 0.79: the second level needs a third cell, the last all four.
    assert [(row != "").sum() for row in answer.region_cells] == [2, 3, 4]
    np.testing.assert_allclose(answer.scene, [0.2, 0.3, 0.5], rtol=1e-6)
    assert np.isnan(answer.confidence).all()
    assert answer.abstention == ""


def test_crops_are_averaged_as_probabilities(small: Hierarchy) -> None:
    decoder = small.decoder()
    even = logits([0.5, 0.5]), logits([1 / 3] * 3)
    # With uniform middle and coarse heads, f* is the mean of the crops: 0.4, 0.2, 0.2, 0.2.
    p = decoder.distribution(*even, logits([0.7, 0.1, 0.1, 0.1], [0.1, 0.3, 0.3, 0.3]))
    np.testing.assert_allclose(p, [0.4, 0.2, 0.2, 0.2], rtol=1e-5)


@pytest.mark.parametrize("crops", range(1, 21))
def test_certain_heads_give_probabilities_of_one_at_most(small: Hierarchy, crops: int) -> None:
    """A mean of ones over ten crops exceeds one in single precision; the ledger refuses that."""
    certain = [np.array([[100.0, *[0.0] * n]] * crops, np.float32) for n in (1, 2, 3, 2)]
    answer = small.decoder().decode(*certain)
    for probabilities in (
        answer.scene,
        answer.cell_probabilities,
        answer.candidate_probabilities,
        answer.region_probabilities,
    ):
        assert probabilities.max() <= 1


def test_a_missing_ancestor_counts_as_uninformative(small: Hierarchy) -> None:
    decoder = Hierarchy(partition("c", "89c", "1"), small.middle, small.fine).decoder()
    p = decoder.distribution(logits([0.9, 0.1]), logits([1 / 3] * 3), logits([0.25] * 4))
    np.testing.assert_allclose(p, np.array([0.9, 0.9, 0.9, 0.5]) / 3.2, rtol=1e-6)
    answer = decoder.decode(
        logits([0.1, 0.9]), logits([1 / 3] * 3), logits([0.1, 0.1, 0.1, 0.7]), SCENE
    )
    assert answer.cells.tolist() == ["", "47e4", "47e04"]
    assert np.isnan(answer.cell_probabilities).tolist() == [True, False, False]


def test_calibration_by_hand(small: Hierarchy) -> None:
    """At temperature 2 the odds are square roots; then a tenth of the prior 1, 2, 3, 4 of 10."""
    decoder = small.decoder(Calibration(temperatures=(1, 1, 2), prior_weight=0.1))
    p = decoder.distribution(
        logits([0.5, 0.5]), logits([1 / 3] * 3), logits([0.64, 0.16, 0.16, 0.04])
    )
    np.testing.assert_allclose(
        p, 0.9 * np.array([8, 4, 4, 2]) / 18 + 0.1 * np.array([1, 2, 3, 4]) / 10, rtol=1e-5
    )


def test_confidence_by_hand(small: Hierarchy) -> None:
    """All mass in one cell of spread 10 km: Rayleigh around its mean, and 1 km is not resolved."""
    sure = logits([0.5, 0.5]), logits([1 / 3] * 3), np.array([[99, 0, 0, 0]], np.float32), SCENE
    plain = small.decoder(Calibration()).decode(*sure)
    assert np.isnan(plain.confidence[0])
    assert plain.confidence[1] == pytest.approx(1 - np.exp(-(25**2) / 10**2), abs=2e-3)
    assert plain.confidence[2:] == pytest.approx([1, 1, 1], abs=1e-5)

    curve = Calibration(slopes=(1, 0.5, 0, 0, 0), intercepts=(0, 0, 0.2, -1, 4), abstain_below=0.6)
    answer = small.decoder(curve).decode(*sure)
    odds = np.sqrt(plain.confidence[1] / (1 - plain.confidence[1]))
    at_25 = odds / (1 + odds)
    # 200 km and 750 km would state less than 25 km, so they are raised to its value.
    at_2500 = 1 / (1 + np.exp(-4))
    assert answer.confidence[1:] == pytest.approx([at_25, at_25, at_25, at_2500], rel=1e-4)
    assert answer.abstention == ""


@pytest.mark.parametrize(
    ("below", "spread", "reason"),
    [(0.3, 10.0, ""), (0.7, 10.0, "too_little_evidence"), (0.0, 900.0, "too_little_evidence")],
)
def test_abstention(small: Hierarchy, below: float, spread: float, reason: str) -> None:
    """Half the mass is near. An unresolved radius states nothing, so it is no evidence either."""
    fine = partition("fine", *small.fine.tokens, spread=spread)
    decoder = Hierarchy(small.coarse, small.middle, fine).decoder(Calibration(abstain_below=below))
    half = logits([0.5, 0.5]), logits([1 / 3] * 3), logits([0.001, 0.001, 0.498, 0.5]), SCENE
    assert decoder.decode(*half).abstention == reason


def test_the_best_point_hits_more_radii(small: Hierarchy) -> None:
    """The top cell is isolated; two neighbouring cells together have more mass."""
    fine = partition("fine", "89c24", "89c2c", "47e04")
    decoder = Hierarchy(small.coarse, small.middle, fine).decoder(Calibration())
    args = logits([0.5, 0.5]), logits([1 / 3] * 3), logits([0.31, 0.3, 0.39]), SCENE
    top, best = decoder.decode(*args), decoder.decode(*args, point="best")
    assert (top.cells[2], best.cells[2]) == ("47e04", "89c24")
    assert best.confidence[2] > top.confidence[2]


def test_invalid_arguments_are_refused(small: Hierarchy) -> None:
    decoder = small.decoder()
    good = logits([0.5, 0.5]), logits([1 / 3] * 3), logits([0.25] * 4)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), expected \[crops, 4\]"):
        decoder.distribution(good[0], good[1], good[0])
    for bad in (np.nan, np.inf):
        broken = good[2].copy()
        broken[0, 1] = bad
        with (
            pytest.raises(ValueError, match="not a number"),
            np.errstate(invalid="ignore"),
        ):
            decoder.distribution(good[0], good[1], broken)


def test_heads_that_contradict_each_other_still_answer(small: Hierarchy) -> None:
    decoder = small.decoder()
    far = np.float32(1e4)
    p = decoder.distribution(
        np.array([[far, 0]]), np.array([[far, 0, 0]]), np.array([[0, 0, 0, far]])
    )
    assert p.sum() == pytest.approx(1)


def test_an_unresolved_radius_raises_no_other() -> None:
    """Its curve was fitted on other cells, so its value must not raise the stated ones."""
    calibration = Calibration(intercepts=(9, 9, 0, 0, 0))
    resolved = np.array([False, False, True, True, True])
    stated = calibration.confidence(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), resolved)
    assert np.isnan(stated[:2]).all()
    assert stated[2:] == pytest.approx([0.3, 0.4, 0.5])


def test_save_and_load(small: Hierarchy, tmp_path: Path) -> None:
    calibration = Calibration((1.5, 1, 2), 0.1, (1, 2, 3, 4, 5), (0, 0, 0, 0, 1), 0.2)
    args = logits([0.6, 0.4]), logits([0.5, 0.2, 0.3]), logits([0.1, 0.2, 0.3, 0.4]), SCENE
    for given_calibration in (calibration, None):
        decoder = small.decoder(given_calibration)
        decoder.save(tmp_path / "decoder.npz")
        loaded = Decoder.load(tmp_path / "decoder.npz")
        assert loaded.calibration == given_calibration
        one, other = decoder.decode(*args), loaded.decode(*args)
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name))


def test_calibration_and_json() -> None:
    calibration = Calibration(temperatures=(1.5, 1, 2), abstain_below=0.2)
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    with pytest.raises(TypeError):
        Calibration.from_dict({"temperature": 1})


def test_the_decoder_runs_without_our_other_code(small: Hierarchy, tmp_path: Path) -> None:
    """Copied beside Triton's model.py, it runs with NumPy and without our other code."""
    import triton_models.answer

    small.decoder().save(tmp_path / "decoder.npz")
    package = tmp_path / "triton_models"
    shutil.copytree(Path(triton_models.answer.__file__).parent, package / "answer")
    (package / "__init__.py").touch()
    script = (
        "import sys; from triton_models.answer.decoding import Decoder; "
        "Decoder.load('decoder.npz'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('pyarrow', 's2sphere', 'shapely')"
        " or m.startswith('triton_models.') and not m.startswith('triton_models.answer')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# ── 12,893 cells ────────────────────────────────────────────────────────────────────────────────


def synthetic_hierarchy() -> Hierarchy:
    rng = np.random.default_rng(1)
    places = rng.normal(size=(400, 3))
    vectors = places[rng.integers(400, size=300_000)] / 1.5
    vectors = vectors + rng.normal(size=vectors.shape) * 10.0 ** rng.uniform(-4, -1, (300_000, 1))
    points = np.stack(from_vectors(vectors), axis=1)
    return build_hierarchy(
        [points], coarse=Limits(4, 2000), middle=Limits(4, 400), fine=Limits(4, 75)
    )[0]


@pytest.fixture(scope="module", params=["synthetic", "published"])
def large(request: pytest.FixtureRequest) -> Hierarchy:
    if request.param == "synthetic":
        return synthetic_hierarchy()
    if not PUBLISHED.is_dir():
        pytest.skip("the published partitions are not here (../shared/partitions)")
    return load_hierarchy(PUBLISHED)[0]


def posteriors(fine: Partition) -> list[Floats]:
    """Known posteriors, from certain to global: blobs, two places at once, the prior."""
    rng = np.random.default_rng(6)
    found = []
    for scale in (20.0, 200.0, 1000.0, 6000.0):
        centre = rng.integers(len(fine))
        off = great_circle_km(
            fine.longitude, fine.latitude, fine.longitude[centre], fine.latitude[centre]
        )
        found.append(np.exp(-off / scale + rng.normal(size=len(fine))))
    return [
        *found,
        found[0] / found[0].sum() + found[2] / found[2].sum(),
        fine.photographs * rng.uniform(0.9, 1.1, len(fine)),
    ]


def test_known_posteriors(large: Hierarchy) -> None:
    """The cell is right, and truths drawn from the posterior lie in regions as often as stated."""
    assert len(large.fine) > 10_000
    rng = np.random.default_rng(9)
    decoder = large.decoder()
    flat = (np.zeros((1, len(p)), np.float32) for p in (large.coarse, large.middle))
    coarse, middle = flat
    draws = 20_000
    for known in posteriors(large.fine):
        p = known / known.sum()
        fine = np.log(np.maximum(p, 1e-30)).astype(np.float32)[None]
        np.testing.assert_allclose(
            decoder.distribution(coarse, middle, fine), p, rtol=1e-4, atol=1e-20
        )
        answer = decoder.decode(coarse, middle, fine, SCENE)
        right = int(np.argmax(p))
        assert answer.cells[2] == large.fine.tokens[right]
        assert answer.position.tolist() == [large.fine.longitude[right], large.fine.latitude[right]]

        truths = large.fine.ids[rng.choice(len(p), size=draws, p=p)]
        for row, level in enumerate(REGION_LEVELS):
            ids = s2cells.ids_of(t for t in answer.region_cells[row] if t)
            stated = answer.region_probabilities[row].sum(dtype=np.float64)
            assert stated >= level
            assert not overlaps(ids)
            first, last = s2cells.range_of(ids)
            inside = ((first <= truths[:, None]) & (truths[:, None] <= last)).any(axis=1).mean()
            # Four standard deviations of the binomial: one in 16,000. The seed is fixed.
            assert abs(inside - stated) <= 4 * np.sqrt(stated * (1 - stated) / draws) + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 30.0]), st.sampled_from([1, 10]))
def test_every_answer(seed: int, scale: float, crops: int) -> None:
    rng = np.random.default_rng(seed)
    hierarchy = _EVERY
    weight = float(rng.choice([0.0, 0.3]))
    decoder = hierarchy.decoder(Calibration(prior_weight=weight))
    coarse, middle, fine = (
        (rng.normal(size=(crops, len(p))) * scale).astype(np.float32) for p in hierarchy.partitions
    )
    p = decoder.distribution(coarse, middle, fine)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    answer = decoder.decode(coarse, middle, fine, SCENE, point="best" if seed % 2 else "top")
    masses = decoder.masses(p, hierarchy.fine.tokens.index(str(answer.cells[2])))
    assert (np.diff(masses) >= -1e-12).all()
    assert 0 <= masses.min() <= masses.max() <= 1
    stated = answer.confidence[~np.isnan(answer.confidence)]
    assert (np.diff(stated) >= 0).all()
    assert (np.diff(answer.cell_probabilities) <= 1e-6).all()
    assert (np.diff(answer.candidate_probabilities) <= 0).all()
    assert answer.candidate_probabilities.sum() <= 1 + 1e-6
    for row, level in enumerate(REGION_LEVELS):
        mass = answer.region_probabilities[row]
        mass = mass[answer.region_cells[row] != ""]
        assert mass.sum(dtype=np.float64) >= level
        assert (mass.sum(dtype=np.float64) - mass < level).all()
    assert answer.position.shape == (2,)
    assert answer.confidence.shape == (len(RADII_KM),)
    assert answer.region_cells.shape == answer.region_probabilities.shape == (3, 64)


def _every() -> Hierarchy:
    rng = np.random.default_rng(2)
    points = np.stack(from_vectors(rng.normal(size=(4000, 3))), axis=1)
    return build_hierarchy(
        [points], coarse=Limits(2, 200), middle=Limits(2, 60), fine=Limits(2, 12)
    )[0]


_EVERY = _every()
