"""Scores, intervals and paired tests against laws and against slower ways to the same figure."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_models.evaluation.compare import compare, mcnemar_exact
from triton_models.evaluation.confidences import calibration, coverage_curve
from triton_models.evaluation.continents import continents
from triton_models.evaluation.scores import accuracy, bootstrap_weights, geoguessr, hits, score

NAN = float("nan")
errors_km = st.lists(
    st.one_of(st.just(NAN), st.floats(0, 20_016, allow_nan=False)), min_size=1, max_size=40
).map(np.array)


@given(errors_km)
def test_accuracy_rises_with_the_radius(errors: np.ndarray) -> None:
    shares = accuracy(errors)
    assert np.all(np.diff(shares) >= 0)
    assert shares.min() >= 0
    assert shares.max() <= 100


@given(errors_km)
def test_intervals_of_a_score(errors: np.ndarray) -> None:
    found = score(errors, resamples=50)
    assert found.n == len(errors)
    for value, (low, high) in zip(found.accuracy, found.accuracy_intervals, strict=True):
        assert 0 <= low <= high <= 100
        assert (low == high == value) or 0 < value < 100
    lows, highs = zip(*found.accuracy_intervals, strict=True)
    assert list(lows) == sorted(lows)
    assert list(highs) == sorted(highs)
    if found.answered:
        assert found.median_km == pytest.approx(np.nanmedian(errors))
        assert found.mean_km == pytest.approx(np.nanmean(errors))
    else:
        assert np.isnan([found.median_km, found.mean_km, *found.median_interval]).all()


def test_a_radius_is_within_itself_and_no_answer_is_a_miss() -> None:
    assert hits(np.array([1.0, 1.0001, NAN])).tolist() == [
        [True] * 5,
        [False, True, True, True, True],
        [False] * 5,
    ]


def test_geoguessr() -> None:
    points = geoguessr(np.array([0.0, 1492.7, 1492.7 * np.log(2), NAN]))
    assert points == pytest.approx([5000, 5000 / np.e, 2500, 0])


def test_the_bootstrap_is_the_plain_one() -> None:
    """Weights are counts of draws; statistics under them are those of the drawn photographs."""
    rng = np.random.default_rng(5)
    errors = np.where(rng.random(23) < 0.2, NAN, rng.exponential(300, 23))
    found = score(errors, resamples=200, seed=3)
    (weights,) = bootstrap_weights(23, resamples=200, seed=3)
    assert weights.sum(axis=1).tolist() == [23.0] * 200
    drawn = [np.repeat(errors, w.astype(int)) for w in weights]
    for value, interval in (
        ([np.nanmedian(d) for d in drawn], found.median_interval),
        ([np.nanmean(d) for d in drawn], found.mean_interval),
        ([geoguessr(d).mean() for d in drawn], found.geoguessr_interval),
        ([100 * np.mean(d <= 200) for d in drawn], found.accuracy_intervals[2]),
    ):
        assert interval == pytest.approx(np.percentile(value, [2.5, 97.5]))


def test_intervals_are_as_wide_as_theory_says() -> None:
    """100 hits of 400: the binomial standard error is 100 · √(0.25 · 0.75 / 400) = 2.165 points."""
    errors = np.where(np.arange(400) < 100, 0.5, 5000.0)
    low, high = score(errors, resamples=4000).accuracy_intervals[0]
    assert (high - low) / (2 * 1.96) == pytest.approx(2.165, rel=0.05)


def test_draws_are_repeatable_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = np.random.default_rng(1).exponential(500, 100)
    once = score(errors, resamples=100, seed=7)
    assert score(errors, resamples=100, seed=7) == once
    assert score(errors, resamples=100, seed=8) != once
    monkeypatch.setattr("triton_models.evaluation.scores._BLOCK_CELLS", 700)
    assert score(errors, resamples=100, seed=7) == once


def test_no_photograph_is_refused() -> None:
    with pytest.raises(ValueError, match="no photograph"):
        score(np.array([]))


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(a: int, b: int) -> None:
    n = a + b
    tail = sum(comb(n, k) for k in range(min(a, b) + 1)) / 2**n
    assert mcnemar_exact(a, b) == pytest.approx(min(1, 2 * tail))
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_by_hand() -> None:
    """1 against 8: 2 · (C(9,0) + C(9,1)) / 2⁹ = 20 / 512."""
    assert mcnemar_exact(1, 8) == 20 / 512
    assert mcnemar_exact(0, 0) == 1
    assert 0 < mcnemar_exact(10, 900) < 1e-240


def test_a_comparison_is_paired() -> None:
    """The second misses 5 of the first's 50 hits, and hits nothing else: 10 points of 50."""
    first = np.where(np.arange(50) < 30, 10.0, 9000.0)
    second = np.where(np.arange(50) < 25, 10.0, 9000.0)
    within_25 = compare(first, second)[1]
    assert within_25.difference == pytest.approx(10)
    assert (within_25.only_first, within_25.only_second) == (5, 0)
    assert within_25.mcnemar_p == 2 / 2**5
    # Unpaired, the standard error of the difference would be 9.9 points, not √(0.1 · 0.9 / 50).
    low, high = within_25.interval
    assert (high - low) / 3.92 == pytest.approx(100 * np.sqrt(0.1 * 0.9 / 50), rel=0.1)
    assert compare(second, first)[1].difference == pytest.approx(-10)
    assert compare(second, first)[1].bootstrap_p == within_25.bootstrap_p


def test_equal_systems_do_not_differ() -> None:
    errors = np.array([0.5, 10.0, NAN])
    for found in compare(errors, errors):
        assert (found.difference, found.interval) == (0, (0, 0))
        assert (found.bootstrap_p, found.mcnemar_p) == (1, 1)
    with pytest.raises(ValueError, match="3 errors beside 2"):
        compare(errors, errors[:2])


def test_p_is_as_often_small_as_it_says_when_nothing_differs() -> None:
    """Exact McNemar is conservative; the bootstrap's p is near its nominal rate."""
    rng = np.random.default_rng(0)
    small, conservative = 0, 0
    for seed in range(200):
        one, two = (np.where(rng.random(200) < 0.5, 10.0, 9000.0) for _ in range(2))
        found = compare(one, two, resamples=200, seed=seed)[1]
        small += found.bootstrap_p < 0.1
        conservative += found.mcnemar_p < 0.1
    assert 8 <= small <= 36
    assert conservative <= 30


def test_coverage_answers_the_surest_first_and_ties_together() -> None:
    errors = np.array([0.5, 0.5, 9000, 0.5, NAN])
    confidence = np.array([0.9, 0.8, 0.8, NAN, NAN])
    curve = [(p.threshold, p.coverage, p.accuracy[0]) for p in coverage_curve(errors, confidence)]
    assert curve == [
        (0.9, 20, 100),
        (0.8, pytest.approx(60), pytest.approx(200 / 3)),
        (None, 80, 75),
    ]
    assert coverage_curve(np.array([NAN]), np.array([NAN])) == ()


@given(st.lists(st.tuples(st.floats(0, 20_000), st.floats(0, 1)), min_size=1, max_size=120))
def test_coverage_only_grows_and_ends_with_every_answer(rows: list[tuple[float, float]]) -> None:
    errors, confidence = np.array(rows).T
    curve = coverage_curve(errors, confidence)
    assert [p.coverage for p in curve] == sorted(p.coverage for p in curve)
    assert curve[-1].coverage == 100
    assert curve[-1].accuracy == tuple(accuracy(errors))


def test_calibration_is_of_answers_with_a_confidence() -> None:
    assert calibration(np.array([1.0, NAN]), np.array([NAN, 0.5])) is None
    found = calibration(np.array([1.0, 300.0, 5.0, NAN]), np.array([0.8, 0.2, NAN, 0.9]))
    assert found is not None
    assert (found.count, found.unstated) == (2, 1)
    assert found.brier == pytest.approx(0.04)


def test_continents_of_known_places() -> None:
    places = {
        (2.29, 48.86): "Europe",
        (139.7, 35.7): "Asia",
        (-43.2, -22.9): "South America",
        (-74.0, 40.7): "North America",
        (31.1, 29.98): "Africa",
        (151.2, -33.9): "Oceania",
        (166.7, -77.8): "Antarctica",
        # Off Samoa; Fiji is the nearer way over the antimeridian.
        (-179.9, -17.0): "Oceania",
    }
    longitude, latitude = zip(*places, strict=True)
    assert continents(longitude, latitude) == tuple(places.values())
