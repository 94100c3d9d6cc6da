"""What lies near a position: a gazetteer's nearest place, with its distance, for orientation.

That place may lie across a border or a sea, so the distance is always said: this is no address.
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
    """`12 km from Pisa, IT`: the nearest place of at least 15,000 people (GeoNames, CC BY 4.0).

    Args:
        longitude: degrees, WGS 84.
        latitude: degrees, WGS 84.
    """
    places = _gazetteer()
    distance = great_circle_km(longitude, latitude, places.longitude, places.latitude)
    nearest = int(np.argmin(distance))
    name = f"{places.names[nearest]}, {places.countries[nearest]}"
    return f"{distance[nearest]:,.0f} km from {name}" if distance[nearest] >= 1 else f"in {name}"
