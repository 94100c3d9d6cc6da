"""Probability within radii, against simulated photographs."""

import numpy as np
import pytest
import s2sphere
from hypothesis import given
from hypothesis import strategies as st

from triton_models.answer.radii import EARTH_RADIUS_KM, RADII_KM, Circles, rice
from triton_models.cells.distance import great_circle_km, to_unit_vectors


@given(
    st.tuples(st.floats(-180, 180), st.floats(-90, 90)),
    st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=30),
)
def test_cells_without_spread_agree_with_caps(
    centre: tuple[float, float], means: list[tuple[float, float]]
) -> None:
    """A cell with all photographs at one point is in a circle iff s2sphere's cap contains it."""
    longitude, latitude = np.array(means).T
    p = np.full(len(means), 1 / len(means))
    found = Circles(to_unit_vectors(longitude, latitude), np.zeros(len(means))).masses(
        to_unit_vectors(*centre), p
    )
    distance = great_circle_km(*centre, longitude, latitude)
    axis = s2sphere.LatLng.from_degrees(centre[1], centre[0]).to_point()
    for radius, mass in zip(RADII_KM, found, strict=True):
        if (np.abs(distance - radius) < 0.1).any():
            continue  # at the edge, the circle cuts the cell
        cap = s2sphere.Cap.from_axis_angle(
            axis, s2sphere.Angle.from_radians(radius / EARTH_RADIUS_KM)
        )
        points = (s2sphere.LatLng.from_degrees(b, a).to_point() for a, b in means)
        assert mass == pytest.approx(np.mean([cap.contains(x) for x in points]), abs=1e-9)


@pytest.mark.parametrize("offset", [0, 0.05, 0.3, 1, 1.7, 3, 6, 15, 60, 300, 5000])
def test_rice_against_simulation(offset: float) -> None:
    rng = np.random.default_rng(2)
    count = 400_000
    drawn = np.sort(np.hypot(rng.normal(size=count) + offset, rng.normal(size=count)))
    margin = np.linspace(max(-offset, -5), 5, 81)
    seen = np.searchsorted(drawn, offset + margin) / count
    # 0.0026 is where Kolmogorov and Smirnov would reject one true sample in 200.
    assert np.abs(rice(np.full(81, float(offset)), margin) - seen).max() < 0.0026 + 4e-4


@given(st.floats(0, 30))
def test_rice_at_the_mean_is_rayleigh(radius: float) -> None:
    exact = 1 - np.exp(-(radius**2) / 2)
    assert rice(np.zeros(1), np.array([radius]))[0] == pytest.approx(exact, abs=4e-4)


@given(st.floats(0, 1e4), st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_rice_rises_with_the_radius(offset: float, margins: list[float]) -> None:
    p = rice(np.full(len(margins), offset), np.sort(margins))
    assert (np.diff(p) >= -1e-12).all()
    assert p.min() >= 0
    assert p.max() <= 1


@given(st.integers(0, 10_000))
def test_masses_are_probabilities_that_rise_with_the_radius(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    lon, lat = rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    circles = Circles(to_unit_vectors(lon, lat), 10.0 ** rng.uniform(-5, 3.5, n))
    p = rng.dirichlet(np.full(n, 0.3))
    masses = circles.masses(to_unit_vectors(lon[0], lat[0]), p)
    assert masses.shape == (len(RADII_KM),)
    assert masses.min() >= 0
    assert masses.max() <= 1
    assert (np.diff(masses) >= -1e-12).all()


@pytest.mark.parametrize("latitude", [0.0, 60.0, 89.0, -90.0])
def test_masses_against_simulated_photographs(latitude: float) -> None:
    """Five cells across the antimeridian or a pole, and photographs drawn from them."""
    rng = np.random.default_rng(4)
    lon = np.array([179.9, -179.8, 178.0, -170.0, 60.0])
    lat = np.clip(latitude + np.array([0.0, 0.5, -1.0, 3.0, -20.0]), -90, 90)
    spread, p = np.array([5.0, 60.0, 150.0, 20.0, 400.0]), np.array([0.3, 0.2, 0.2, 0.2, 0.1])
    centre = to_unit_vectors(lon, lat)
    masses = Circles(centre, spread).masses(centre[0], p)

    count = 100_000
    cell = rng.choice(5, size=count, p=p)
    away = rng.normal(size=(count, 3)) * (spread[cell] / np.sqrt(2) / EARTH_RADIUS_KM)[:, None]
    away -= np.sum(away * centre[cell], axis=1, keepdims=True) * centre[cell]
    drawn = centre[cell] + away
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    off = great_circle_km(
        np.degrees(np.arctan2(drawn[:, 1], drawn[:, 0])),
        np.degrees(np.arcsin(np.clip(drawn[:, 2], -1, 1))),
        lon[0],
        lat[0],
    )
    seen = [(off <= r).mean() for r in RADII_KM]
    # The plane of the model against the sphere, and five deviations of the simulation.
    np.testing.assert_allclose(masses, seen, atol=0.01)
