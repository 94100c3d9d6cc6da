"""Compare two systems by paired tests on the same photographs."""

from dataclasses import dataclass

import numpy as np

from triton_models.cells.distance import Floats
from triton_models.evaluation.scores import (
    RESAMPLES,
    Interval,
    bootstrap_weights,
    hits,
    percentiles,
)


@dataclass(frozen=True)
class Comparison:
    """Accuracy of one system less that of another within one radius, in percentage points."""

    difference: float
    interval: Interval
    """95 %, by the percentile bootstrap over photographs, both systems on the same draws."""
    bootstrap_p: float
    only_first: int
    """Photographs that only the first system hits."""
    only_second: int
    mcnemar_p: float


def compare(
    first_km: Floats, second_km: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare errors [n] of two systems (NaN: no answer) within each of RADII_KM.

    The bootstrap's p is twice the share of resamples on the other side of no difference (Efron and
    Tibshirani 1993, section 15.4). Neither p is corrected for the number of comparisons.

    Raises ValueError where the two are not over the same number of photographs.
    """
    if len(first_km) != len(second_km):
        raise ValueError(f"{len(first_km)} errors beside {len(second_km)}")
    first, second = hits(first_km), hits(second_km)
    gain = 100.0 * (first.astype(np.float64) - second)
    draws = bootstrap_weights(len(gain), resamples=resamples, seed=seed)
    drawn = np.concatenate([weights @ gain / len(gain) for weights in draws])
    low, high = (end.tolist() for end in percentiles(drawn))
    # The draw that was observed counts as one, so that p is never 0 (Davison and Hinkley 1997).
    sides = np.minimum((drawn <= 0).sum(axis=0), (drawn >= 0).sum(axis=0)) + 1
    p = np.minimum(1.0, 2 * sides / (resamples + 1))
    only_first, only_second = (first & ~second).sum(axis=0), (second & ~first).sum(axis=0)
    return tuple(
        Comparison(
            difference=float(gain[:, k].mean()),
            interval=(low[k], high[k]),
            bootstrap_p=float(p[k]),
            only_first=int(only_first[k]),
            only_second=int(only_second[k]),
            mcnemar_p=mcnemar_exact(int(only_first[k]), int(only_second[k])),
        )
        for k in range(gain.shape[1])
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p of McNemar's test (1947): each discordant photograph is a toss.

    Exact in integers, so that no tail underflows; 1 where no photograph is discordant.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways, tail = 1, 0
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return float(min(1.0, 2 * tail / 2**n))
