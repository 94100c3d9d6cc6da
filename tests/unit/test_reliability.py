"""Reliability, against hand-computed values and simulated confidences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_models.fitting.reliability import (
    assess_confidence,
    assess_regions,
    brier_score,
    calibration_error,
    log_loss,
    wilson,
)


def test_wilson_by_hand() -> None:
    """For 7 of 10, Wilson's interval is 0.397 to 0.892 (Agresti and Coull 1998, table 1)."""
    assert wilson(7, 10) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_contains_the_share(hits: int, count: int) -> None:
    hits = min(hits, count)
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count + 1e-12
    assert hits / count - 1e-12 <= high <= 1


def test_scores_by_hand() -> None:
    confidence, hits = np.array([0.9, 0.6, 0.2, 0.2]), np.array([True, False, False, True])
    assert brier_score(confidence, hits) == pytest.approx((0.01 + 0.36 + 0.04 + 0.64) / 4)
    assert log_loss(confidence, hits) == pytest.approx(-np.log(0.9 * 0.4 * 0.8 * 0.2) / 4)
    # Bins of 0.1: 0.9 against 1, 0.6 against 0, twice 0.2 against 0.5.
    assert calibration_error(confidence, hits) == pytest.approx((0.1 + 0.6 + 2 * 0.3) / 4)


def test_true_confidences_beat_the_best_constant() -> None:
    rng = np.random.default_rng(11)
    confidence = rng.beta(0.7, 0.7, 4000)
    hits = rng.random(4000) < confidence
    report = assess_confidence(confidence, hits, resamples=200)
    assert report.brier < report.brier_constant - 0.05
    assert report.log_loss < report.log_loss_constant - 0.1
    assert report.calibration_error < 0.03
    low, high = report.calibration_error_interval
    assert low < high
    assert sum(b.count for b in report.bins) == 4000


def test_a_constant_confidence_scores_worse_than_an_informative_one() -> None:
    """It is calibrated on average and uninformative. The scores show that; the ECE does not."""
    rng = np.random.default_rng(12)
    truth = rng.beta(0.7, 0.7, 4000)
    hits = rng.random(4000) < truth
    constant = assess_confidence(np.full(4000, hits.mean()), hits, resamples=50)
    knowing = assess_confidence(truth, hits, resamples=50)
    assert constant.calibration_error < 1e-9
    assert constant.brier == pytest.approx(constant.brier_constant)
    assert knowing.brier < constant.brier
    assert knowing.log_loss < constant.log_loss


def test_overconfidence_is_measured() -> None:
    rng = np.random.default_rng(13)
    truth = rng.uniform(0.2, 0.8, 4000)
    stated = 1 / (1 + np.exp(-3 * np.log(truth / (1 - truth))))
    hits = rng.random(4000) < truth
    report = assess_confidence(stated, hits, resamples=200)
    assert report.calibration_error_interval[0] > 0.1


def test_unstated_confidences_are_counted_and_left_out() -> None:
    report = assess_confidence([0.5, np.nan, 0.5], [True, True, False], resamples=10)
    assert (report.count, report.unstated) == (2, 1)
    with pytest.raises(ValueError, match="no confidence"):
        assess_confidence([np.nan], [True])


def test_regions_by_hand() -> None:
    """Of two answers, one region contains the truth (New York in 89c25)."""
    report = assess_regions(
        0.5, [["89c25", "47e4", ""], ["1"]], [[0.4, 0.2, 0], [0.9]], [-74.0, -74.0], [40.7, 40.7]
    )
    assert report.coverage == 0.5
    assert report.probability == pytest.approx(0.75)
    assert report.mean_cells == 1.5
    assert report.mean_area_km2 > 1e6
    with pytest.raises(ValueError, match="not an S2 token"):
        assess_regions(0.5, [["xyz"]], [[1.0]], [0.0], [0.0])
    with pytest.raises(ValueError, match="no region"):
        assess_regions(0.5, [], [], [], [])
