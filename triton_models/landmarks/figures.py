"""The figures that the results and the model card state, from held-out answers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triton_models.landmarks.photographs import Photographs
from triton_models.radii import RADII_KM

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """How much more often one method hits than another on the same photographs, in points."""

    points: float
    low: float
    high: float
    """The 95 % interval: bootstrap of whole series, which share a photographer and a day."""
    only_first: int
    only_second: int
    """Photographs that one alone hits."""


def hits(photographs: Photographs, said: Ints) -> Flags:
    """Whether each photograph's place lies within each of RADII_KM of the place said, [n, 5]."""
    km = photographs.distances()[photographs.place, said]
    return km[:, None] <= np.array(RADII_KM)


def accuracy(flags: Flags) -> list[float]:
    """Percentages at RADII_KM."""
    return [round(100 * float(share), 1) for share in flags.mean(axis=0)]


def difference(photographs: Photographs, first: Flags, second: Flags) -> Difference:
    """Compare two columns of hits [n], paired."""
    _, series = np.unique(photographs.series, return_inverse=True)
    gain = np.bincount(series, first.astype(float) - second)
    size = np.bincount(series)
    drawn = np.random.default_rng(0).integers(len(size), size=(RESAMPLES, len(size)))
    shares = 100 * gain[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return Difference(
        points=round(100 * float(gain.sum() / size.sum()), 2),
        low=round(low, 2),
        high=round(high, 2),
        only_first=int((first & ~second).sum()),
        only_second=int((second & ~first).sum()),
    )
