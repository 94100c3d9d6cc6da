"""The partition of inhabited places, which needs no photographs."""

import numpy as np
import pytest

from triton_models.cells.gazetteer import cities, gazetteer_hierarchy


def test_places_are_on_earth() -> None:
    places = cities(15000)
    n = len(places.names)
    assert n > 20_000
    assert {len(places.longitude), len(places.latitude), len(places.countries)} == {n}
    assert np.abs(places.longitude).max() <= 180
    assert np.abs(places.latitude).max() <= 90
    lima = places.names.index("Lima")
    assert places.countries[lima] == "PE"
    assert places.longitude[lima] == pytest.approx(-77, abs=0.2)
    assert places.latitude[lima] == pytest.approx(-12, abs=0.2)


def test_an_unknown_list_is_refused() -> None:
    with pytest.raises(FileNotFoundError):
        cities(123)


def test_the_hierarchy_is_small_global_and_complete() -> None:
    hierarchy = gazetteer_hierarchy()
    sizes = [len(p) for p in hierarchy.partitions]
    assert 100 < sizes[0] < 200
    assert 400 < sizes[1] < 600
    assert 1300 < sizes[2] < 1700
    assert (hierarchy.fine_to_middle >= 0).all()
    assert (hierarchy.fine_to_coarse >= 0).all()
    assert len({t[0] for t in hierarchy.coarse.tokens}) >= 8
    assert hierarchy.fine.photographs.sum() > 0.99 * len(cities().names)
