"""Great-circle distances, and conversions between longitude/latitude and unit vectors.

The Earth is taken as a sphere of its mean radius. The published accuracies (PlaNet, ISNs,
TransLocator) are great-circle figures. An ellipsoid changes a distance by 0.6 % at most.
"""

import numpy as np
import numpy.typing as npt

from triton_models.answer.radii import EARTH_RADIUS_KM

Floats = npt.NDArray[np.float64]


def great_circle_km(
    longitude: npt.ArrayLike,
    latitude: npt.ArrayLike,
    other_longitude: npt.ArrayLike,
    other_latitude: npt.ArrayLike,
) -> Floats:
    """Return distances in kilometres between points in degrees; the four arguments broadcast.

    The haversine formula keeps full precision for near points, where the law of cosines does not.
    A NaN coordinate gives NaN.
    """
    lon, lat, lon2, lat2 = (
        np.radians(np.asarray(a, np.float64))
        for a in (longitude, latitude, other_longitude, other_latitude)
    )
    h = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    distance: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))
    return distance


def km_of_chord(chord: Floats) -> Floats:
    """Return the great-circle distance of two points whose unit vectors are ``chord`` apart."""
    distance: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1.0))
    return distance


def to_unit_vectors(longitude: npt.ArrayLike, latitude: npt.ArrayLike) -> Floats:
    """Return unit vectors [..., 3] of points [...] in degrees.

    x points to 0°E 0°N, z to the north pole.
    """
    lon = np.radians(np.asarray(longitude, np.float64))
    lat = np.radians(np.asarray(latitude, np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def from_vectors(vectors: Floats) -> tuple[Floats, Floats]:
    """Return longitude and latitude in degrees of vectors [..., 3] of any length."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
