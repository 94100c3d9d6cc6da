"""Measure the reliability of the 200 km confidence, and accuracy against coverage."""

from dataclasses import dataclass

import numpy as np

from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import Floats
from triton_models.evaluation.scores import accuracy, hits
from triton_models.fitting.reliability import ConfidenceReport, Flags, assess_confidence

CONFIDENCE_KM = 200.0
_MOST_POINTS = 50


@dataclass(frozen=True)
class CoveragePoint:
    """The scores if only answers of a least confidence are given."""

    threshold: float | None
    """The least confidence; None is every answer."""
    coverage: float
    """Share of all photographs that is answered, in per cent."""
    accuracy: tuple[float, ...]
    """Of the answered ones, within each of RADII_KM, in per cent."""


def calibration(error_km: Floats, confidence: Floats, *, seed: int = 0) -> ConfidenceReport | None:
    """Return the reliability of the confidences [n] of answers; None if none is stated."""
    answered = ~np.isnan(error_km)
    if np.isnan(confidence[answered]).all():
        return None
    right = hits(error_km)[:, RADII_KM.index(CONFIDENCE_KM)]
    return assess_confidence(confidence[answered], right[answered], seed=seed)


def coverage_curve(error_km: Floats, confidence: Floats) -> tuple[CoveragePoint, ...]:
    """Return accuracy against coverage, from the surest answers to all of them.

    Equal confidences are answered together: no threshold can tell them apart. The last point is
    every answer, with or without a confidence; it is the only one where none is stated.
    """
    answered = ~np.isnan(error_km)
    if not answered.any():
        return ()
    stated = confidence[answered & ~np.isnan(confidence)]
    thresholds = np.unique(stated)[::-1]
    if len(thresholds) > _MOST_POINTS:
        share = np.linspace(0, len(thresholds) - 1, _MOST_POINTS).round().astype(int)
        thresholds = thresholds[share]
    points = [_point(error_km, answered & (confidence >= t), float(t)) for t in thresholds]
    if len(stated) < answered.sum():
        points.append(_point(error_km, answered, None))
    return tuple(points)


def _point(error_km: Floats, chosen: Flags, threshold: float | None) -> CoveragePoint:
    return CoveragePoint(
        threshold=threshold,
        coverage=float(100 * chosen.mean()),
        accuracy=tuple(accuracy(error_km[chosen]).tolist()),
    )
