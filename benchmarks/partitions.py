"""Build partitions from 4.7 million coordinates: `python -m benchmarks.partitions`.

The coordinates are synthetic. They are scattered around inhabited places at distances from metres
to a thousand kilometres, more where more people live. They come in chunks, as from a file.
"""

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np

from triton_models.cells.distance import Floats, from_vectors, to_unit_vectors
from triton_models.cells.gazetteer import cities
from triton_models.cells.partitioning import Limits, build_partition, read_leaves

LIMITS = {
    "coarse_50_5000": Limits(50, 5000),
    "middle_50_2000": Limits(50, 2000),
    "fine_50_1000": Limits(50, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_700_000)
    parser.add_argument("--chunk", type=int, default=100_000)
    parser.add_argument("--small", choices=("drop", "merge"), default="drop")
    given = parser.parse_args()
    at = cities(15000)
    centres = to_unit_vectors(at.longitude, at.latitude)
    share = np.sqrt(at.population + 1)

    before = memory_mb()
    made = 0.0

    def chunks() -> Iterator[Floats]:
        nonlocal made
        rng = np.random.default_rng(1)
        for start in range(0, given.count, given.chunk):
            began = time.perf_counter()
            points = photographs(rng, centres, share, min(given.chunk, given.count - start))
            made += time.perf_counter() - began
            yield points

    print(f"{given.count:,} coordinates in chunks of {given.chunk:,}; small cells: {given.small}\n")
    print("| step | cells | left out or merged | seconds | peak memory, MB above the start |")
    print("|---|---|---|---|---|")
    start = time.perf_counter()
    leaves = read_leaves(chunks())
    seconds = time.perf_counter() - start - made
    print(f"| read and sort | | | {seconds:.2f} | {memory_mb() - before:.0f} |")
    for name, limits in LIMITS.items():
        start = time.perf_counter()
        partition, report = build_partition(
            leaves,
            name=name,
            min_count=limits.min_count,
            max_count=limits.max_count,
            small=given.small,
        )
        seconds = time.perf_counter() - start
        lost = f"{report.small_cells:,} cells, {report.small_photographs:,} photographs"
        peak = memory_mb() - before
        print(f"| {name} | {len(partition):,} | {lost} | {seconds:.2f} | {peak:.0f} |")


def photographs(rng: np.random.Generator, centres: Floats, share: Floats, count: int) -> Floats:
    """Return random longitudes and latitudes in degrees, [count, 2]."""
    place = rng.choice(len(centres), size=count, p=share / share.sum())
    reach = 10.0 ** rng.uniform(-6, -1, (count, 1))  # radians: 6 m to 600 km
    vectors = centres[place] + rng.normal(size=(count, 3)) * reach
    return np.stack(from_vectors(vectors), axis=1)


def memory_mb() -> float:
    """Return this process's peak memory in MB (ru_maxrss is in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
