"""The probability that a photograph lies within each radius of a point.

A cell's photographs spread around their mean position. They are modelled as an isotropic normal
distribution in the plane, whose root-mean-square distance is the cell's spread. Their distance from
any other point then follows Rice's distribution.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 = (2a + b) / 3 of the WGS 84 / GRS 80 ellipsoid (IUGG; Moritz 2000)."""

RADII_KM = (1.0, 25.0, 200.0, 750.0, 2500.0)
"""Street, city, region, country and continent (Weyand et al. 2016, section 4)."""

_MARGIN = 5.0
"""Standard deviations from a circle's edge at which a cell is wholly in or out (to 4e-6)."""
_OFFSETS, _MARGINS = 65, 201


class Circles:
    """The share of each cell that lies within circles of RADII_KM around any point."""

    def __init__(self, vectors: Floats, spread_km: Floats) -> None:
        """Take unit vectors of the mean positions, [n, 3], and root-mean-square distances, [n]."""
        self._vectors = vectors
        self._sigma = np.maximum(spread_km, 1e-3) / np.sqrt(2)
        radii, reach = np.array(RADII_KM)[:, None], _MARGIN * self._sigma
        # A cell nearer than the first is wholly inside, from the second on wholly outside. Both are
        # in 1 - cosine, which is exact for short distances in single precision.
        self._inside = np.where(radii > reach, _versine(radii - reach), -1.0).astype(np.float32)
        self._outside = _versine(radii + reach).astype(np.float32)
        _rice_table()  # computed here, so that the first request does not wait for it

    def masses(self, vector: Floats, p: Floats) -> Floats:
        """Return the probability within each of RADII_KM of a unit vector, [5].

        ``p``: the probability of each cell, [n]. A cell that a circle cuts is left out of it where
        it has under 1e-4 of an even share. Together such cells hold less than 1e-4.
        """
        cosine = self._vectors @ vector
        versine = (1 - cosine).astype(np.float32)
        inside = versine < self._inside
        cut = (versine < self._outside) & ~inside & (p > 1e-4 / len(p))
        circle, cell = np.divmod(np.flatnonzero(cut), len(p))
        distance = EARTH_RADIUS_KM * np.arccos(np.clip(cosine[cell], -1.0, 1.0))
        sigma = self._sigma[cell]
        hits = rice(distance / sigma, (np.array(RADII_KM)[circle] - distance) / sigma)
        partly = np.bincount(circle, hits * p[cell], minlength=len(RADII_KM))
        return np.clip(inside @ p + partly, 0.0, 1.0)


def _versine(km: Floats) -> Floats:
    versine: Floats = 2 * np.sin(np.minimum(km / EARTH_RADIUS_KM, np.pi) / 2) ** 2
    return versine


def rice(offset: Floats, margin: Floats) -> Floats:
    """Return Rice's distribution function at offset + margin, in units of sigma; |margin| ≤ 5.

    It is interpolated in a table over offset / (1 + offset) and margin, because NumPy lacks the
    special function. The error is 4e-4 at most, and the value rises with the margin.
    """
    x = offset / (1 + offset) * (_OFFSETS - 1)
    y = (np.clip(margin, -_MARGIN, _MARGIN) + _MARGIN) * ((_MARGINS - 1) / (2 * _MARGIN))
    i = np.minimum(x.astype(np.int64), _OFFSETS - 2)
    j = np.minimum(y.astype(np.int64), _MARGINS - 2)
    x, y = x - i, y - j
    table = _rice_table()
    low = table[i, j] * (1 - y) + table[i, j + 1] * y
    high = table[i + 1, j] * (1 - y) + table[i + 1, j + 1] * y
    interpolated: Floats = low * (1 - x) + high * x
    return interpolated


@cache
def _rice_table() -> Floats:
    """Return the density r exp(-(r² + u²)/2) I0(ru) (Rice 1945), integrated to u + margin."""
    share = np.linspace(0, 1, _OFFSETS)[:-1, None]
    u = share / (1 - share)
    margin = np.linspace(-_MARGIN, _MARGIN, 10 * (_MARGINS - 1) + 1)
    r = np.maximum(u + margin, 0)
    near, far = np.minimum(r * u, 100), np.maximum(r * u, 100)
    # I0(z) exp(-z), by its asymptotic series (DLMF 10.40.1) where I0 would overflow.
    scaled = np.where(
        r * u < 100,
        np.i0(near) * np.exp(-near),
        (1 + 1 / (8 * far) + 9 / (128 * far**2)) / np.sqrt(2 * np.pi * far),
    )
    normal = np.exp(-0.5 * margin**2)
    # At a great offset a circle is a straight line, and Rice's distribution the normal one.
    density = np.vstack([r * normal * scaled, normal / np.sqrt(2 * np.pi)])
    steps = (density[:, 1:] + density[:, :-1]) / 2 * (margin[1] - margin[0])
    below = np.concatenate([np.zeros((_OFFSETS, 1)), np.cumsum(steps, axis=1)], axis=1)
    table: Floats = np.minimum(below[:, ::10], 1.0)
    return table
