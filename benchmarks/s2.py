"""Compare the vectorised S2 arithmetic with s2sphere: `python -m benchmarks.s2`.

Both answer for the same random cells. The tests check that the answers are equal.
"""

import argparse
import timeit
from collections.abc import Callable

import numpy as np
from s2sphere import Cell, CellId, LatLng

from triton_models.cells import s2cells
from triton_models.cells.distance import from_vectors
from triton_models.cells.polygons import cell_polygons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    count = parser.parse_args().cells
    rng = np.random.default_rng(0)
    longitude, latitude = from_vectors(rng.normal(size=(count, 3)))
    leaves = s2cells.leaf_ids(longitude, latitude)
    ids = s2cells.ancestors(leaves, rng.integers(1, 20, count))
    points = [LatLng.from_degrees(b, a) for a, b in zip(longitude, latitude, strict=True)]
    cells = [CellId(k) for k in ids.tolist()]
    corners, areas = (lambda c: [Cell(c).get_vertex(k) for k in range(4)]), Cell.exact_area
    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "leaf cell of a point": (
            lambda: s2cells.leaf_ids(longitude, latitude),
            lambda: [CellId.from_lat_lng(point) for point in points],
        ),
        "level": (lambda: s2cells.levels(ids), lambda: [c.level() for c in cells]),
        "range": (
            lambda: s2cells.range_of(ids),
            lambda: [(c.range_min(), c.range_max()) for c in cells],
        ),
        "parent": (
            lambda: s2cells.ancestors(ids, s2cells.levels(ids) - 1),
            lambda: [c.parent() for c in cells],
        ),
        "children": (lambda: s2cells.children(ids), lambda: [list(c.children()) for c in cells]),
        "corners": (lambda: s2cells.corners(ids), lambda: [corners(c) for c in cells]),
        "area": (lambda: s2cells.areas_km2(ids), lambda: [areas(Cell(c)) for c in cells]),
    }
    print(f"{count:,} cells; µs for one cell\n")
    print("| answer | arrays | s2sphere | times as fast |\n|---|---:|---:|---:|")
    for name, pair in rows.items():
        ours, theirs = (min(timeit.repeat(f, number=1, repeat=3)) / count * 1e6 for f in pair)
        print(f"| {name} | {ours:.3f} | {theirs:.2f} | {theirs / ours:.0f} |")
    tokens = s2cells.tokens_of(ids)
    for name, one in (
        ("token → id (s2sphere in both)", lambda: s2cells.ids_of(tokens)),
        ("id → token (s2sphere in both)", lambda: s2cells.tokens_of(ids)),
        ("polygon with its further vertices", lambda: cell_polygons(ids)),
    ):
        taken = min(timeit.repeat(one, number=1, repeat=3)) / count * 1e6
        print(f"| {name} | {taken:.2f} | | |")


if __name__ == "__main__":
    main()
