"""The scores of one system, from its errors in kilometres.

An error is NaN where there is no answer. Accuracy and the GeoGuessr score are over all photographs,
so no answer is a miss and scores nothing; mean and median error are over the answered ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import Floats

Interval = tuple[float, float]
Weights = npt.NDArray[np.float64]

GEOGUESSR_MOST = 5000.0
GEOGUESSR_KM = 1492.7
"""The game's formula is not published; players found 5000·exp(-d / 1492.7 km) for its world map,
and PIGEON (Haas et al., CVPR 2024) states its results in it."""

RESAMPLES = 1000
_BLOCK_CELLS = 1 << 22
"""Resamples are drawn in blocks, so that memory does not grow with their number."""


@dataclass(frozen=True)
class Score:
    """A system's scores on some photographs; lengths 5 are by RADII_KM, shares in per cent."""

    n: int
    answered: int
    accuracy: tuple[float, ...]
    accuracy_intervals: tuple[Interval, ...]
    geoguessr: float
    geoguessr_interval: Interval
    mean_km: float
    """NaN if nothing is answered, as are the median and both intervals."""
    mean_interval: Interval
    median_km: float
    median_interval: Interval


def score(error_km: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Score:
    """Score errors [n], with 95 % intervals by the percentile bootstrap over photographs.

    Raises ValueError where there is no photograph.
    """
    n = len(error_km)
    if not n:
        raise ValueError("no photograph to score")
    points = _statistics(error_km, np.ones((1, n)))[0]
    draws = bootstrap_weights(n, resamples=resamples, seed=seed)
    drawn = np.concatenate([_statistics(error_km, weights) for weights in draws])
    low, high = (end.tolist() for end in percentiles(drawn))
    intervals: list[Interval] = list(zip(low, high, strict=True))
    radii = len(RADII_KM)
    values = points.tolist()
    return Score(
        n=n,
        answered=int(np.sum(~np.isnan(error_km))),
        accuracy=tuple(values[:radii]),
        accuracy_intervals=tuple(intervals[:radii]),
        geoguessr=values[radii],
        geoguessr_interval=intervals[radii],
        mean_km=values[radii + 1],
        mean_interval=intervals[radii + 1],
        median_km=values[radii + 2],
        median_interval=intervals[radii + 2],
    )


def hits(error_km: Floats) -> npt.NDArray[np.bool_]:
    """Return whether each error [n] is at most each of RADII_KM: [n, 5]."""
    within: npt.NDArray[np.bool_] = error_km[:, None] <= np.array(RADII_KM)
    return within


def accuracy(error_km: Floats) -> Floats:
    """Return the share of photographs within each of RADII_KM, in per cent: [5]."""
    shares: Floats = 100 * hits(error_km).mean(axis=0)
    return shares


def geoguessr(error_km: Floats) -> Floats:
    """Return points for each error [n]: 5000 for an error of 0, 0 without an answer."""
    return np.nan_to_num(GEOGUESSR_MOST * np.exp(-error_km / GEOGUESSR_KM))


def bootstrap_weights(n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Weights]:
    """Yield how often each of n photographs is drawn in each resample, in blocks [k, n].

    The same n, resamples and seed give the same draws: that makes a comparison a paired one.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // n)
    for at in range(0, resamples, block):
        k = min(block, resamples - at)
        drawn = rng.integers(n, size=(k, n)) + n * np.arange(k)[:, None]
        yield np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n).astype(np.float64)


def percentiles(drawn: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % percentile interval of each column of [resamples, m].

    NaN where a column has only NaN: resamples in which nothing was answered have no mean error.
    """
    low, high = np.full((2, drawn.shape[1]), np.nan)
    some = ~np.isnan(drawn).all(axis=0)
    low[some], high[some] = np.nanpercentile(drawn[:, some], [2.5, 97.5], axis=0)
    return low, high


def _statistics(error_km: Floats, weights: Weights) -> Floats:
    """Return accuracies, GeoGuessr score, mean and median error under weights [k, n]: [k, 8]."""
    answered = ~np.isnan(error_km)
    columns = (100 * hits(error_km), geoguessr(error_km), np.nan_to_num(error_km), answered)
    totals = weights @ np.column_stack(columns)
    with np.errstate(invalid="ignore"):  # 0 / 0 if a resample has no answer
        mean = totals[:, -2] / totals[:, -1]
    shares = totals[:, :-2] / len(error_km)
    return np.column_stack([shares, mean, _medians(error_km, weights)])


def _medians(error_km: Floats, weights: Weights) -> Floats:
    """Return the median of errors repeated by weights [k, n]; NaN if none is answered."""
    order = np.argsort(error_km)[: np.sum(~np.isnan(error_km))]  # NaN is sorted last
    if not len(order):
        return np.full(len(weights), np.nan)
    below = np.cumsum(weights[:, order], axis=1)
    total = below[:, -1:]
    # The middle ones, counted from 1, are number ⌊(t + 1) / 2⌋ and ⌊t / 2⌋ + 1.
    middle = [np.sum(below < number, axis=1) for number in ((total + 1) // 2, total // 2 + 1)]
    at = np.minimum(middle, len(order) - 1)
    medians: Floats = error_km[order][at].mean(axis=0)
    return np.where(total[:, 0] > 0, medians, np.nan)
