"""Great circles: distances on the sphere, and longitude/latitude to unit vectors and back.

The Earth is a sphere of its mean radius here. The published accuracies (PlaNet, ISNs,
TransLocator) are great-circle figures, and the ellipsoid changes a distance by 0.6 % at most.
"""

import numpy as np
import numpy.typing as npt

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 = (2a + b) / 3 of the WGS 84 / GRS 80 ellipsoid (IUGG; Moritz 2000)."""

Floats = npt.NDArray[np.float64]


def great_circle_km(
    longitude: npt.ArrayLike,
    latitude: npt.ArrayLike,
    other_longitude: npt.ArrayLike,
    other_latitude: npt.ArrayLike,
) -> Floats:
    """Distance in kilometres between points given in degrees; the four arguments broadcast.

    The haversine formula keeps full precision for near points, where the law of cosines fails.
    NaN in, NaN out.
    """
    lon, lat, lon2, lat2 = (
        np.radians(np.asarray(a, np.float64))
        for a in (longitude, latitude, other_longitude, other_latitude)
    )
    h = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    distance: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))
    return distance


def to_unit_vectors(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> Floats:
    """Degrees, shape [...], to unit vectors, shape [..., 3] (x towards 0°E 0°N, z to the pole)."""
    lon = np.radians(np.asarray(longitude, np.float64))
    lat = np.radians(np.asarray(latitude, np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def from_vectors(vectors: Floats) -> tuple[Floats, Floats]:
    """Vectors of any length, shape [..., 3], to longitude and latitude in degrees."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
