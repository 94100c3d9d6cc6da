"""Reliability of stated confidences and regions: calibration error, scores, coverage.

The functions take confidences, hits, regions and true positions. They do not depend on networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triton_models.cells import s2cells
from triton_models.cells.s2cells import Floats

Flags = npt.NDArray[np.bool_]
Interval = tuple[float, float]

_LEAST = 1e-6
"""Confidences are clipped to this distance from 0 and 1, so that the log loss is finite."""


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in [low, high); the last bin includes its upper end."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean stated confidence; NaN in an empty bin."""
    hits: float
    """Share of right answers; NaN in an empty bin."""
    interval: Interval
    """95 % interval of that share."""


@dataclass(frozen=True)
class ConfidenceReport:
    """Scores of confidences as predictions of right answers, compared with the best constant.

    The best constant is the share of right answers in the same data. Stating it for every answer is
    perfectly calibrated and carries no information.
    """

    count: int
    unstated: int
    """Answers without a confidence, which are left out."""
    calibration_error: float
    calibration_error_interval: Interval
    brier: float
    brier_constant: float
    log_loss: float
    log_loss_constant: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class RegionReport:
    """Coverage and size of regions of one level."""

    level: float
    count: int
    coverage: float
    coverage_interval: Interval
    probability: float
    """Mean probability that the regions state. Coverage should equal it, not only the level."""
    mean_area_km2: float
    mean_cells: float


def wilson(hits: int, count: int, z: float = 1.959964) -> Interval:
    """Return the score interval of a share (Wilson 1927), 95 % by default; (0, 1) without data."""
    if count == 0:
        return 0.0, 1.0
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count)
    half *= float(np.sqrt(share * (1 - share) / count + square / (4 * count**2)))
    return max(0.0, middle - half), min(1.0, middle + half)


def brier_score(confidence: npt.ArrayLike, hits: npt.ArrayLike) -> float:
    """Return the mean squared difference between confidence and outcome (Brier 1950)."""
    return float(np.mean(np.square(np.asarray(confidence) - np.asarray(hits))))


def log_loss(confidence: npt.ArrayLike, hits: npt.ArrayLike) -> float:
    """Return the mean negative log-likelihood of the outcomes, in nats."""
    c = np.clip(np.asarray(confidence, np.float64), _LEAST, 1 - _LEAST)
    return float(-np.mean(np.where(hits, np.log(c), np.log1p(-c))))


def calibration_error(confidence: Floats, hits: Flags, bins: int = 10) -> float:
    """Return the expected calibration error: mean |confidence - share of hits| over equal bins.

    Bins are weighted by their number of answers (Naeini et al. 2015; Guo et al. 2017).
    """
    number = _bin_of(confidence, bins)
    gaps = np.bincount(number, confidence - hits, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def assess_confidence(
    confidence: npt.ArrayLike,
    hits: npt.ArrayLike,
    *,
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> ConfidenceReport:
    """Assess stated confidences [n] (NaN: not stated) against whether each answer was right [n].

    The interval of the calibration error is the 95 % percentile bootstrap over answers.

    Raises ValueError where no confidence is stated.
    """
    stated, right = np.asarray(confidence, np.float64), np.asarray(hits, np.bool_)
    known = ~np.isnan(stated)
    c, h = stated[known], right[known]
    if not len(c):
        raise ValueError("no confidence is stated")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(c), size=len(c)) for _ in range(resamples))
    errors = [calibration_error(c[k], h[k], bins) for k in drawn]
    low, high = np.quantile(errors, [0.025, 0.975]).tolist()
    base = float(h.mean())
    return ConfidenceReport(
        count=len(c),
        unstated=int(np.sum(~known)),
        calibration_error=calibration_error(c, h, bins),
        calibration_error_interval=(low, high),
        brier=brier_score(c, h),
        brier_constant=brier_score(base, h),
        log_loss=log_loss(c, h),
        log_loss_constant=log_loss(base, h),
        bins=_bins(c, h, bins),
    )


def assess_regions(
    level: float,
    cells: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
    longitude: npt.ArrayLike,
    latitude: npt.ArrayLike,
) -> RegionReport:
    """Assess regions against the true positions (degrees, [n]).

    ``cells``: the tokens of each answer's region, ``""`` ignored. ``probabilities``: those of the
    cells.

    Raises ValueError where there is no answer, or a text is not a token.
    """
    if not len(cells):
        raise ValueError("no region to assess")
    named = [(k, token) for k, tokens in enumerate(cells) for token in tokens if token]
    answer = np.array([k for k, _ in named], np.int64)
    ids = s2cells.ids_of(token for _, token in named)
    leaf = s2cells.leaf_ids(longitude, latitude)[answer]
    first, last = s2cells.range_of(ids)
    hits = len(np.unique(answer[(first <= leaf) & (leaf <= last)]))
    return RegionReport(
        level=level,
        count=len(cells),
        coverage=hits / len(cells),
        coverage_interval=wilson(hits, len(cells)),
        probability=float(np.mean([np.sum(p) for p in probabilities])),
        mean_area_km2=float(s2cells.areas_km2(ids).sum() / len(cells)),
        mean_cells=len(ids) / len(cells),
    )


def _bin_of(confidence: Floats, bins: int) -> npt.NDArray[np.int64]:
    return np.clip((confidence * bins).astype(np.int64), 0, bins - 1)


def _bins(confidence: Floats, hits: Flags, bins: int) -> tuple[Bin, ...]:
    number = _bin_of(confidence, bins)
    found = []
    for k in range(bins):
        c, h = confidence[number == k], hits[number == k]
        found.append(
            Bin(
                low=k / bins,
                high=(k + 1) / bins,
                count=len(c),
                confidence=float(c.mean()) if len(c) else float("nan"),
                hits=float(h.mean()) if len(c) else float("nan"),
                interval=wilson(int(h.sum()), len(c)),
            )
        )
    return tuple(found)
