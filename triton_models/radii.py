"""How probable it is that a photograph of a cell lies within a radius of a point.

A cell is not a point: its photographs spread around their mean position.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088
"""As in ``distance``, which is not copied beside Triton's model.py."""

RADII_KM = (1.0, 25.0, 200.0, 750.0, 2500.0)
"""Street, city, region, country and continent (PlaNet, section 4)."""

_MARGIN = 5.0
_OFFSETS, _MARGINS = 65, 201


def hit_probabilities(distance: Floats, spread: Floats, exact: npt.NDArray[np.bool_]) -> Floats:
    """Probability that a photograph of each cell lies within each of RADII_KM of a point.

    ``distance`` (km, [k]) is that of the cells' mean positions from the point. Photographs lie
    around the mean position like an isotropic normal distribution in the plane, whose
    root-mean-square distance is ``spread`` (km): the distance from the point then follows Rice's
    distribution. Where not ``exact``, or five deviations away, it is all or nothing. [5, k].
    """
    sigma = np.maximum(spread, 1e-3) / np.sqrt(2)
    margin = (np.array(RADII_KM)[:, None] - distance) / sigma
    hits: Floats = (margin >= 0).astype(np.float64)
    row, cell = np.nonzero((np.abs(margin) < _MARGIN) & exact)
    hits[row, cell] = _rice(distance[cell] / sigma[cell], margin[row, cell])
    return hits


_MARGIN = 5.0


def _rice(offset: Floats, margin: Floats) -> Floats:
    """Rice's distribution function at offset + margin, both in units of sigma; |margin| < 5.

    Interpolated in a table over offset / (1 + offset) and margin; off by 2e-4 at most.
    """
    x = offset / (1 + offset) * (_OFFSETS - 1)
    y = (margin + _MARGIN) * ((_MARGINS - 1) / (2 * _MARGIN))
    i = np.minimum(x.astype(np.int64), _OFFSETS - 2)
    j = np.minimum(y.astype(np.int64), _MARGINS - 2)
    x, y = x - i, y - j
    low = _RICE[i, j] * (1 - y) + _RICE[i, j + 1] * y
    high = _RICE[i + 1, j] * (1 - y) + _RICE[i + 1, j + 1] * y
    interpolated: Floats = low * (1 - x) + high * x
    return interpolated


def _rice_table() -> Floats:
    """The density r exp(-(r² + u²)/2) I0(ru) (Rice 1945), summed up to u + margin."""
    share = np.linspace(0, 1, _OFFSETS)[:-1, None]
    u = share / (1 - share)
    margin = np.linspace(-_MARGIN, _MARGIN, 10 * (_MARGINS - 1) + 1)
    r = np.maximum(u + margin, 0)
    z = r * u
    # I0(z) exp(-z), by its asymptotic series (DLMF 10.40.1) where I0 would overflow.
    large = np.maximum(z, 100)
    scaled = np.where(
        z < 100,
        np.i0(np.minimum(z, 100)) * np.exp(-np.minimum(z, 100)),
        (1 + 1 / (8 * large) + 9 / (128 * large**2)) / np.sqrt(2 * np.pi * large),
    )
    density = r * np.exp(-0.5 * (r - u) ** 2) * scaled
    steps = (density[:, 1:] + density[:, :-1]) / 2 * np.diff(margin)
    below = np.concatenate([np.zeros((len(u), 1)), np.cumsum(steps, axis=1)], axis=1)
    # Far away a circle is a straight line, and Rice's distribution the normal one.
    normal = np.exp(-0.5 * margin**2) / np.sqrt(2 * np.pi)
    line = np.concatenate([[0], np.cumsum((normal[1:] + normal[:-1]) / 2 * np.diff(margin))])
    table: Floats = np.minimum(np.vstack([below, line])[:, ::10], 1.0)
    return table


_RICE = _rice_table()
