"""Calibration recovers the distortion of simulated scores, and its figures show it."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import REGION_LEVELS, Decoded, Decoder
from triton_models.cells.distance import Floats, from_vectors, great_circle_km
from triton_models.cells.geocells import Hierarchy
from triton_models.cells.partitioning import Limits, build_hierarchy
from triton_models.fitting.calibration import (
    CalibrationError,
    Scored,
    abstention_threshold,
    fit,
    fit_logistic,
    fit_prior_weight,
    minimise,
)
from triton_models.fitting.reliability import Flags, assess_confidence, assess_regions

SCENE = np.zeros((1, 3), np.float32)


@cache
def hierarchy() -> Hierarchy:
    """A hierarchy of some 300 fine cells of a few hundred kilometres, on one continent."""
    rng = np.random.default_rng(2)
    vectors = np.array([1.0, 0.3, 0.8]) + rng.normal(size=(12_000, 3)) * 0.15
    points = np.stack(from_vectors(vectors), axis=1)
    return build_hierarchy(
        [points], coarse=Limits(3, 500), middle=Limits(3, 150), fine=Limits(3, 60)
    )[0]


@cache
def simulated(seed: int, count: int, factors: tuple[float, float, float]) -> list[Scored]:
    """Simulate scores whose f* is the true posterior, then multiply each head's logits."""
    rng = np.random.default_rng(seed)
    cells, decoder = hierarchy(), hierarchy().decoder()
    found = []
    for _ in range(count):
        centre = rng.integers(len(cells.fine))
        logits = []
        for p in cells.partitions:
            off = great_circle_km(
                p.longitude, p.latitude, cells.fine.longitude[centre], cells.fine.latitude[centre]
            )
            logits.append((rng.normal(size=len(p)) - off / 700).astype(np.float32)[None])
        truth = rng.choice(len(cells.fine), p=decoder.distribution(*logits))
        coarse, middle, fine = (x * np.float32(f) for x, f in zip(logits, factors, strict=True))
        place = cells.fine.longitude[truth], cells.fine.latitude[truth]
        found.append(Scored(coarse, middle, fine, *map(float, place)))
    return found


def answers(decoder: Decoder, photographs: list[Scored]) -> list[Decoded]:
    return [decoder.decode(s.coarse, s.middle, s.fine, SCENE) for s in photographs]


def hits_at_200(decoded: list[Decoded], photographs: list[Scored]) -> Flags:
    return np.array(
        [
            great_circle_km(d.position[0], d.position[1], s.longitude, s.latitude) <= 200
            for d, s in zip(decoded, photographs, strict=True)
        ]
    )


@pytest.mark.parametrize("factors", [(3.0, 3.0, 3.0), (0.4, 0.4, 0.4), (1.0, 2.5, 0.6)])
def test_distorted_scores_are_recovered(factors: tuple[float, float, float]) -> None:
    held_out = simulated(1, 500, factors)
    found = fit(hierarchy(), held_out)
    np.testing.assert_allclose(found.calibration.temperatures, factors, rtol=0.3)
    assert found.calibration.prior_weight < 0.05
    assert found.log_loss_after < found.log_loss_before - 0.05
    assert (found.photographs, found.outside) == (500, 0)

    fresh = simulated(2, 1000, factors)
    raw = answers(hierarchy().decoder(Calibration()), fresh)
    fitted = answers(hierarchy().decoder(found.calibration), fresh)
    before, after = (
        assess_confidence([d.confidence[2] for d in a], hits_at_200(a, fresh), resamples=20)
        for a in (raw, fitted)
    )
    assert after.calibration_error < 0.07 < before.calibration_error
    assert after.brier < after.brier_constant
    assert after.log_loss < after.log_loss_constant
    assert after.log_loss < before.log_loss
    lon, lat = [s.longitude for s in fresh], [s.latitude for s in fresh]
    for row, level in enumerate(REGION_LEVELS):
        raw_report, report = (
            assess_regions(
                level,
                [[str(t) for t in d.region_cells[row]] for d in a],
                [d.region_probabilities[row].tolist() for d in a],
                lon,
                lat,
            )
            for a in (raw, fitted)
        )
        assert report.coverage == pytest.approx(report.probability, abs=0.05)
        too_sure = factors[0] > 1
        if factors[0] != 1.0:
            assert (raw_report.coverage < raw_report.probability - 0.02) == too_sure


def test_the_weight_of_the_prior_is_recovered() -> None:
    rng = np.random.default_rng(3)
    model, prior = rng.dirichlet(np.full(50, 0.1), 4000) + 1e-12, rng.dirichlet(np.ones(50))
    from_prior = rng.random(4000) < 0.25
    rows = [prior if b else m / m.sum() for b, m in zip(from_prior, model, strict=True)]
    truth = np.array([rng.choice(50, p=row) for row in rows])
    p = model[np.arange(4000), truth]
    assert fit_prior_weight(p, prior[truth]) == pytest.approx(0.25, abs=0.03)
    assert fit_prior_weight(np.full(10, 0.5), np.full(10, 0.1)) == 0
    assert fit_prior_weight(np.full(10, 1e-9), np.full(10, 0.1)) > 0.99


def test_a_logistic_curve_is_recovered() -> None:
    rng = np.random.default_rng(4)
    mass = rng.beta(1, 1, 20_000)
    odds = np.log(mass / (1 - mass))
    hits = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds + 0.8)))
    assert fit_logistic(mass, hits) == pytest.approx((0.5, 0.8), abs=0.06)


@pytest.mark.parametrize("hits", [True, False])
def test_one_sided_outcomes_stay_finite(hits: bool) -> None:
    slope, intercept = fit_logistic(np.linspace(0.1, 0.9, 40), np.full(40, hits))
    assert slope >= 0
    assert (intercept > 2) == hits
    assert abs(intercept) < 6


def test_a_curve_never_falls() -> None:
    mass = np.linspace(0.01, 0.99, 200)
    slope, intercept = fit_logistic(mass, mass < 0.5)
    assert slope == 0
    assert intercept == pytest.approx(0, abs=0.1)


@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3), st.floats(0.1, 3))
def test_minimise(target: tuple[float, float, float], scale: float) -> None:
    """Minimise a convex function that is not quadratic, with mixed axes."""
    mix = np.array([[1, 0.8, 0.2], [0, 1, 0.5], [0, 0, 1]])

    def bowl(x: Floats) -> float:
        return float(np.sum(np.cosh(scale * (mix @ (x - target)))))

    np.testing.assert_allclose(minimise(bowl, np.zeros(3), bound=3.0), target, atol=0.05)


def test_the_threshold_keeps_the_rate_on_fresh_data() -> None:
    rng = np.random.default_rng(5)
    confidence = rng.beta(1, 1, 3000)
    threshold = abstention_threshold(confidence, rng.random(3000) < confidence, 0.2)
    fresh = rng.beta(1, 1, 100_000)
    right = rng.random(100_000) < fresh
    answered = fresh >= threshold
    assert 0.1 < 1 - right[answered].mean() <= 0.2
    assert answered.mean() > 0.3


def test_a_threshold_by_hand() -> None:
    """40 right answers at 0.9, 10 wrong at 0.4; z² / (n + z²) for 0 wrong of 40 is 16.5 %."""
    confidence = np.array([0.9] * 40 + [0.4] * 10 + [np.nan])
    hits = np.array([True] * 40 + [False] * 11)
    assert abstention_threshold(confidence, hits, 0.17) == 0.9
    assert abstention_threshold(confidence, hits, 0.5) == 0.4
    with pytest.raises(CalibrationError, match="no threshold keeps errors at"):
        abstention_threshold(confidence, hits, 0.16)


def test_abstaining_keeps_the_rate() -> None:
    factors = (2.0, 2.0, 2.0)
    found = fit(hierarchy(), simulated(1, 500, factors), error_rate=0.55)
    fresh = simulated(2, 1000, factors)
    decoded = answers(hierarchy().decoder(found.calibration), fresh)
    answered = np.array([d.abstention == "" for d in decoded])
    assert 0.05 < answered.mean() < 0.95
    assert 1 - hits_at_200(decoded, fresh)[answered].mean() < 0.55


def test_nothing_to_fit_on() -> None:
    c, m, f = (np.zeros((1, len(p)), np.float32) for p in hierarchy().partitions)
    with pytest.raises(CalibrationError, match="no held-out photograph"):
        fit(hierarchy(), [Scored(c, m, f, 170.0, -60.0)])
