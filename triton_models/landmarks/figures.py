"""The figures of the results and the model card, from held-out answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from triton_models.answer.radii import RADII_KM
from triton_models.landmarks.photographs import Photographs

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Difference of the hit rates of two methods on the same photographs, in points."""

    points: float
    low: float
    high: float
    """Upper end of the 95 % interval, by bootstrap of whole series (one photographer and day)."""
    only_first: int
    only_second: int
    """Photographs that only the second method hits."""


def hits(photographs: Photographs, said: Ints) -> Flags:
    """Return whether each photograph's place is within each of RADII_KM of the answer, [n, 5]."""
    km = photographs.distances()[photographs.place, said]
    return km[:, None] <= np.array(RADII_KM)


def accuracy(flags: Flags) -> list[float]:
    """Return the percentages of hits at RADII_KM."""
    return [round(100 * float(share), 1) for share in flags.mean(axis=0)]


def resampled(group: npt.NDArray[Any], values: npt.ArrayLike) -> Floats:
    """Return bootstrap means [RESAMPLES, k] of values [n, k], drawing whole groups [n].

    Photographs of a series share a photographer and a day, those of a site the site. They are not
    independent, so whole groups are drawn.
    """
    _, number = np.unique(group, return_inverse=True)
    size = np.bincount(number)
    sums = np.stack([np.bincount(number, column) for column in np.asarray(values).T], axis=1)
    drawn = np.random.default_rng(0).integers(len(size), size=(RESAMPLES, len(size)))
    means: Floats = sums[drawn].sum(axis=1) / size[drawn].sum(axis=1)[:, None]
    return means


def interval(samples: Floats) -> tuple[float, float]:
    """Return the middle 95 % of samples, to four digits."""
    low, high = np.quantile(samples, [0.025, 0.975]).round(4).tolist()
    return low, high


def share_interval(group: npt.NDArray[Any], flags: npt.ArrayLike) -> tuple[float, float]:
    """Return the 95 % interval of the share of photographs with the flag [n]."""
    return interval(resampled(group, np.asarray(flags, np.float64)[:, None]))


def calibration_interval(
    group: npt.NDArray[Any], confidence: npt.ArrayLike, flags: Flags
) -> tuple[float, float]:
    """Return the 95 % interval of `reliability.calibration_error`, drawing whole groups."""
    stated = np.asarray(confidence, np.float64)
    bins = np.eye(10)[np.clip((stated * 10).astype(np.int64), 0, 9)]
    gaps = resampled(group, bins * (stated - flags)[:, None])
    return interval(np.abs(gaps).sum(axis=1))


def difference(photographs: Photographs, first: Flags, second: Flags) -> Difference:
    """Compare two paired columns of hits [n]."""
    gain = first.astype(np.float64) - second
    low, high = interval(100 * resampled(photographs.series, gain[:, None]))
    return Difference(
        points=round(100 * float(gain.mean()), 2),
        low=round(low, 2),
        high=round(high, 2),
        only_first=int((first & ~second).sum()),
        only_second=int((second & ~first).sum()),
    )
