"""Compare two ways to choose a point from a posterior.

    .venv/bin/python -m benchmarks.points [--partitions ../shared/partitions] [--photographs 1000]

`top` is the mean position of the most probable cell, as published. `best` is the mean position with
the highest expected number of radii hit. No network is used: each posterior is a set of likely
cells around a random cell of the published partition, and the true position is drawn from it. So
the posterior is right by construction, and only the choice of the point is compared.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from geotag.evaluation.evaluate import run_evaluation
from triton_models.answer.decoding import Decoder, Floats, Singles
from triton_models.cells.distance import great_circle_km
from triton_models.cells.published import load_hierarchy

SPREADS_KM = (10.0, 100.0, 500.0, 2000.0)
KM_PER_DEGREE = 111.195  # of a great circle: 6371.0088 km * pi / 180
COLUMNS = (
    "img_id", "gt_lat", "predicted_lat", "gt_long", "predicted_long", "great_circle_distance",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--partitions", type=Path, default=Path("../shared/partitions"))
    parser.add_argument("--photographs", type=int, default=1000)
    given = parser.parse_args()
    decoder = load_hierarchy(given.partitions)[0].decoder()
    random = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        files = {point: Path(folder) / f"{point}.csv" for point in ("top", "best")}
        rows: dict[str, list[tuple[str | float, ...]]] = {point: [] for point in files}
        for number in range(given.photographs):
            p = posterior(decoder, SPREADS_KM[number % len(SPREADS_KM)], random)
            longitude, latitude = truth(decoder, p, random)
            ranked = np.argsort(-p, kind="stable")
            chosen = {"top": int(ranked[0]), "best": decoder.best_cell(p, ranked[:16])}
            for point, cell in chosen.items():
                at = float(decoder.longitude[cell]), float(decoder.latitude[cell])
                distance = float(great_circle_km(longitude, latitude, *at))
                row = (f"{number}.jpg", latitude, at[1], longitude, at[0], distance)
                rows[point].append(row)
        for point, path in files.items():
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows(rows[point])
        run_evaluation(
            predictions=list(files.values()),
            form="table",
            results_for_folder=lambda _folder: (),
            results_for_run=lambda _run: (),
        )


def posterior(decoder: Decoder, spread_km: float, random: np.random.Generator) -> Floats:
    """Return f* of noisy scores around a random cell, [cells], for one crop."""
    centre = random.choice(len(decoder.prior), p=decoder.prior)
    away = great_circle_km(
        decoder.longitude[centre], decoder.latitude[centre], decoder.longitude, decoder.latitude
    )
    scores = np.log(decoder.prior) - away / spread_km + random.normal(0, 1, len(away))
    fine: Singles = scores[None].astype(np.float32)
    flat = [
        np.zeros((1, len(t)), np.float32) for t in (decoder.coarse_tokens, decoder.middle_tokens)
    ]
    return decoder.distribution(*flat, fine)


def truth(decoder: Decoder, p: Floats, random: np.random.Generator) -> tuple[float, float]:
    """Draw a position from the posterior: a cell, and an offset from its mean by its spread."""
    cell = random.choice(len(p), p=p)
    east, north = random.normal(0, decoder.spread_km[cell] / np.sqrt(2), 2) / KM_PER_DEGREE
    latitude = float(np.clip(decoder.latitude[cell] + north, -90, 90))
    longitude = float(decoder.longitude[cell] + east / max(0.01, np.cos(np.radians(latitude))))
    return (longitude + 180) % 360 - 180, latitude


if __name__ == "__main__":
    main()
