"""Time and memory of decoding, by stage: `python -m benchmarks.decoding [--partitions DIR]`.

With the directory of the published CSV files there are 12,893 fine cells. Without it there are
about as many over the places of a gazetteer. Set OMP_NUM_THREADS=1 to use one core.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import Decoder, Singles
from triton_models.answer.regions import MOST_CELLS, top
from triton_models.cells.distance import great_circle_km
from triton_models.cells.gazetteer import cities
from triton_models.cells.geocells import Hierarchy
from triton_models.cells.partitioning import Limits, build_hierarchy
from triton_models.cells.published import load_hierarchy

SPREADS_KM = {"one town": 5.0, "one country": 1500.0, "the whole world": 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=Path, help="directory of the published CSVs")
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    hierarchy = load_hierarchy(given.partitions)[0] if given.partitions else places()

    tracemalloc.start()
    decoder = hierarchy.decoder(Calibration(temperatures=(1.2, 1.2, 1.2)))
    kept, building = (size / 1e6 for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    sizes = " / ".join(f"{len(p):,}" for p in hierarchy.partitions)
    print(f"{sizes} cells; NumPy {np.__version__}; {given.repeats} repeats")
    print(f"decoder: {kept:.1f} MB kept, {building:.1f} MB at most while it is built\n")

    print("| crops | posterior | stage | least CPU ms | median CPU ms |\n|---|---|---|---|---|")
    for crops in (1, 10):
        for name, spread in SPREADS_KM.items():
            scores = logits(hierarchy, crops, spread)
            for stage, work in stages(decoder, scores).items():
                least, median = timed(work, given.repeats)
                print(f"| {crops} | {name} | {stage} | {least:.2f} | {median:.2f} |")
            peak = peak_of(stages(decoder, scores)["all"])
            print(f"| {crops} | {name} | memory at most | {peak:.1f} MB | |")


def places() -> Hierarchy:
    """Return a hierarchy of about the published size, over 235,000 inhabited places."""
    at = cities(500)
    return build_hierarchy(
        [np.stack([at.longitude, at.latitude], axis=1)],
        coarse=Limits(4, 150),
        middle=Limits(4, 62),
        fine=Limits(4, 32),
    )[0]


def logits(hierarchy: Hierarchy, crops: int, spread_km: float) -> list[Singles]:
    """Return noisy scores that fall with the distance from one cell, and scene scores."""
    rng = np.random.default_rng(1)
    fine, centre = hierarchy.fine, 4321
    found = []
    for p in hierarchy.partitions:
        off = great_circle_km(
            p.longitude, p.latitude, fine.longitude[centre], fine.latitude[centre]
        )
        noise = rng.normal(size=(crops, len(p)))
        found.append((np.log(p.photographs) / 3 - off / spread_km + noise).astype(np.float32))
    return [*found, np.zeros((crops, 3), np.float32)]


def stages(decoder: Decoder, scores: list[Singles]) -> dict[str, Callable[[], object]]:
    coarse, middle, fine, scene = scores
    p = decoder.distribution(coarse, middle, fine)
    ranked = top(p, MOST_CELLS)
    chosen = int(ranked[0])
    return {
        "f*": lambda: decoder.distribution(coarse, middle, fine),
        "top cells": lambda: top(p, MOST_CELLS),
        "masses": lambda: decoder.masses(p, chosen),
        "regions": lambda: decoder.regions(p, ranked),
        "best point (optional)": lambda: decoder.best_cell(p, ranked[:16]),
        "all": lambda: decoder.decode(coarse, middle, fine, scene),
    }


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least and median milliseconds of this thread's CPU time."""
    work()
    seen = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        seen.append((time.thread_time() - start) * 1e3)
    return min(seen), float(np.median(seen))


def peak_of(work: Callable[[], object]) -> float:
    """Return the peak of allocated memory during the work, in MB."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
