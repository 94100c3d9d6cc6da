"""Something small that can be learnt: four cities, each of a colour of its own.

Some of the held-out pictures are half of another city's colour, so a network cannot be sure.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tests import training_files
from tests.training_files import CONFIG, SIZE
from triton_models.cells.geocells import write_tables
from triton_models.cells.partitioning import Limits, build_hierarchy

PLACES = ((2.35, 48.86), (-0.13, 51.51), (151.21, -33.86), (-58.38, -34.60))
"""Longitude and latitude of Paris, London, Sydney and Buenos Aires."""
SCENES = ("urban", "natural", "indoor", "")
COLOURS = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200), (190, 190, 190)])
LEARNT, HELD_OUT = 24, 105
COLUMNS = ("file", "longitude", "latitude", "scene", "split")

RECIPE = CONFIG.replace("epochs = 4", "epochs = 30\nlabel_smoothing = 0.2").replace(
    'folder = "photographs"', 'folder = "."'
)


def write(folder: Path) -> Path:
    """Write everything that a run needs; the held-out pictures are its validation photographs.

    Returns the path of the run's configuration.
    """
    rng = np.random.default_rng(0)
    mixed = (COLOURS + np.roll(COLOURS, 1, axis=0)) // 2
    rows = []
    for split, count in (("train", LEARNT), ("validation", HELD_OUT)):
        (folder / split).mkdir()
        for k in range(count):
            place = k % len(PLACES)
            colour = (COLOURS if split == "train" or k % 3 else mixed)[place]
            pixels = (colour + rng.integers(-30, 30, (SIZE, SIZE, 3))).clip(0, 255)
            file = f"{split}/{k}.png"  # the same names in both folders
            Image.fromarray(pixels.astype(np.uint8)).save(folder / file)
            longitude, latitude = (PLACES[place] + rng.uniform(-0.01, 0.01, 2)).tolist()
            rows.append((file, longitude, latitude, SCENES[place], split))
    write_table(folder / "photographs.csv", rows)
    learnt = np.array([row[1:3] for row in rows[:LEARNT]])
    limits = [Limits(1, most) for most in (2 * LEARNT, LEARNT // 2, LEARNT // 4)]
    cells, _ = build_hierarchy([learnt], coarse=limits[0], middle=limits[1], fine=limits[2])
    write_tables(cells, folder)
    training_files.write_segmenter(folder / "segmentation.onnx")
    path = folder / "config.toml"
    path.write_text(RECIPE)
    return path


def write_table(path: Path, rows: list[tuple[str, float, float, str, str]]) -> None:
    """Write photographs as geotag train reads them."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def read_table(path: Path) -> list[tuple[str, float, float, str, str]]:
    """Read them back."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(file, float(lon), float(lat), scene, split) for file, lon, lat, scene, split in rows]
