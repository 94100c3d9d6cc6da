"""Compute SVG coordinates and path data of the report's charts.

A path is rounded to a tenth of a unit, so that a page of 25,600 photographs stays small.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import Floats, from_vectors, to_unit_vectors
from triton_models.cells.gazetteer import cities

MAP_WIDTH, MAP_HEIGHT = 1000.0, 500.0
"""Plate carrée: 360 by 180 degrees."""

_SMALLEST_TOWN = 15_000
_STEP = math.radians(3)
"""A great circle is drawn in straight pieces of three degrees."""
_LEAST_KM, _MOST_KM = 0.1, 20_037.5
"""Half a great circle, the largest possible error."""

Point = tuple[float, float]


def project(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the map's x and y of a position in degrees."""
    x = (np.asarray(longitude, np.float64) + 180) * (MAP_WIDTH / 360)
    y = (90 - np.asarray(latitude, np.float64)) * (MAP_HEIGHT / 180)
    return x, y


@cache
def land() -> str:
    """Return path data of a dot at each degree square with a town: land, where people live."""
    towns = cities(_SMALLEST_TOWN)
    degrees = np.unique(np.floor(np.stack([towns.longitude, towns.latitude])), axis=1) + 0.5
    x, y = project(degrees[0], degrees[1])
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True))


def graticule(step: int = 30) -> str:
    """Return path data of meridians and parallels."""
    x, y = project(np.arange(-180, 181, step), np.zeros(360 // step + 1))
    lines = [f"M{a:.1f} 0V{MAP_HEIGHT:.0f}" for a in x]
    _x, y = project(np.zeros(180 // step + 1), np.arange(-90, 91, step))
    return "".join(lines + [f"M0 {b:.1f}H{MAP_WIDTH:.0f}" for b in y])


def arc(start: Point, end: Point) -> str:
    """Return path data of the great circle between two positions (longitude, latitude in degrees).

    Where it crosses the antimeridian it is there twice, each time partly beyond the map.
    """
    u, v = to_unit_vectors(*zip(start, end, strict=True))
    angle = math.atan2(float(np.linalg.norm(np.cross(u, v))), float(u @ v))
    share = np.linspace(0, 1, max(2, math.ceil(angle / _STEP) + 1))[:, None]
    if math.sin(angle) > 1e-9:  # else a point, or antipodes: every great circle is shortest
        vectors = (np.sin((1 - share) * angle) * u + np.sin(share * angle) * v) / math.sin(angle)
        x, y = project(*from_vectors(vectors))
    else:
        x, y = project(*zip(start, end, strict=True))
    # The whole arc is drawn from its start beyond the map's edge, and again up to its end.
    whole = np.unwrap(x, period=MAP_WIDTH)
    shift = x[-1] - whole[-1]
    copies = [whole, whole + shift] if abs(shift) > 1 else [whole]
    return "".join(
        "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(copy, y, strict=True)) for copy in copies
    )


def error_class(error_km: Floats) -> npt.NDArray[np.int64]:
    """Return 0 for an error within the smallest of RADII_KM, … 5 beyond the largest: [n]."""
    return np.searchsorted(np.array(RADII_KM), error_km, side="left").astype(np.int64)


def spread_evenly(order: Sequence[int], most: int) -> list[int]:
    """Return at most so many of them, evenly spaced from first to last."""
    if len(order) <= most:
        return list(order)
    return [order[k] for k in np.linspace(0, len(order) - 1, most).round().astype(int)]


class Plot:
    """A plot area of given size: shares to its coordinates, the y axis upwards."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height

    def at(self, x: float, y: float) -> Point:
        """Return the coordinates of a point given as shares (0 to 1) of the axes."""
        return x * self.width, (1 - y) * self.height

    def line(self, points: Iterable[Point], *, steps: bool = False) -> str:
        """Return path data through points given as shares; in steps: across, then up."""
        text = ""
        for x, y in points:
            a, b = self.at(x, y)
            text += (
                (f"H{a:.1f}V{b:.1f}" if steps else f"L{a:.1f} {b:.1f}")
                if text
                else (f"M{a:.1f} {b:.1f}")
            )
        return text


def log_share(km: float) -> float:
    """Return an error's place, 0 to 1, on a logarithmic axis of 100 m to half a great circle."""
    within = min(max(km, _LEAST_KM), _MOST_KM)
    return math.log(within / _LEAST_KM) / math.log(_MOST_KM / _LEAST_KM)


def distribution(error_km: Floats, most: int = 400) -> list[Point]:
    """Return the share of photographs (NaN: no answer) within each error, on that axis.

    At most so many points of the curve; it ends at the share that is answered.
    """
    errors = np.sort(error_km[~np.isnan(error_km)])
    if not len(errors):
        return [(0.0, 0.0), (1.0, 0.0)]
    ranks = spread_evenly(range(len(errors)), most)
    points = [(log_share(float(errors[k])), (k + 1) / len(error_km)) for k in ranks]
    return [(0.0, 0.0), *points, (1.0, len(errors) / len(error_km))]
