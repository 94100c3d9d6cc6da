"""Great-circle distances against GeographicLib, on a sphere of the same radius."""

import numpy as np
import pytest
from geographiclib.geodesic import Geodesic
from hypothesis import given
from hypothesis import strategies as st

from triton_models.answer.radii import EARTH_RADIUS_KM
from triton_models.cells.distance import from_vectors, great_circle_km, to_unit_vectors

LONGITUDES, LATITUDES = st.floats(-180, 180), st.floats(-90, 90)
POLES_AND_ANTIPODES = [
    (0, 90, 0, -90),
    (12, 34, -168, -34),
    (180, 10, -180, 10),
    (179.9999999, 0, -179.9999999, 0),
    (-30, 90, 77, 90),
    (10, 50, 10 + 1e-9, 50 - 1e-9),
    (0, 0, 180, 0),
    (0, 0, 180, 1e-7),
    (5, 5, 5, 5),
]


def test_ten_thousand_pairs_agree_with_geographiclib() -> None:
    rng = np.random.default_rng(20)
    far = np.stack([rng.uniform(-180, 180, 8000), rng.uniform(-90, 90, 8000)] * 2, axis=1)
    far[:, 2:] = far[rng.permutation(8000), :2]
    near = np.repeat(far[: 2000 - len(POLES_AND_ANTIPODES)], 1, axis=0)
    near[:, 2:] = near[:, :2] + 10.0 ** rng.uniform(-9, -1, (len(near), 2))
    near[:, 3] = np.clip(near[:, 3], -90, 90)
    pairs = np.concatenate([far, near, np.array(POLES_AND_ANTIPODES, float)])
    assert len(pairs) == 10_000

    sphere = Geodesic(EARTH_RADIUS_KM * 1000, 0)
    theirs = [sphere.Inverse(a, o, b, p)["s12"] / 1000 for o, a, p, b in pairs]
    np.testing.assert_allclose(great_circle_km(*pairs.T), theirs, rtol=1e-6, atol=1e-9)


@given(LONGITUDES, LATITUDES, LONGITUDES, LATITUDES, LONGITUDES, LATITUDES)
def test_it_is_a_metric(a: float, b: float, c: float, d: float, e: float, f: float) -> None:
    there, back = great_circle_km(a, b, c, d), great_circle_km(c, d, a, b)
    assert there == pytest.approx(back, abs=1e-9)
    assert 0 <= there <= np.pi * EARTH_RADIUS_KM
    assert there <= great_circle_km(a, b, e, f) + great_circle_km(e, f, c, d) + 1e-6


@given(LONGITUDES, LATITUDES)
def test_vectors_and_back(longitude: float, latitude: float) -> None:
    vector = to_unit_vectors(longitude, latitude)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert great_circle_km(longitude, latitude, *from_vectors(vector)) < 1e-6


def test_arguments_broadcast() -> None:
    assert great_circle_km([[0.0], [1.0]], 0.0, [0.0, 1.0, 2.0], 0.0).shape == (2, 3)
