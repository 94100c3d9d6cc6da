"""Name the nearest place of a gazetteer, with its distance, for orientation.

The place may lie across a border or a sea, so the distance is always given. This is no address.
"""

from functools import cache

import numpy as np

from triton_models.cells.distance import great_circle_km
from triton_models.cells.gazetteer import Cities, cities

_SMALLEST = 15_000


@cache
def _gazetteer() -> Cities:
    return cities(_SMALLEST)


def near(longitude: float, latitude: float) -> str:
    """Return `12 km from Pisa, IT`: the nearest place of 15,000 people or more.

    The places are those of GeoNames (CC BY 4.0).

    Args:
        longitude: degrees, WGS 84.
        latitude: degrees, WGS 84.
    """
    places = _gazetteer()
    distance = great_circle_km(longitude, latitude, places.longitude, places.latitude)
    nearest = int(np.argmin(distance))
    name = f"{places.names[nearest]}, {places.countries[nearest]}"
    return f"{distance[nearest]:,.0f} km from {name}" if distance[nearest] >= 1 else f"in {name}"
