"""A miniature training set that every processor learns: four cities, each with its own colour.

Some pictures are taken at night, when all cities look alike. Training shows night most often in
Paris, and no held-out night picture is of Paris. So the network is sure and right by day, unsure
and wrong at night. Training determines both; no result depends on an untrained colour.
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
COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (190, 190, 190))
NIGHT = (30, 30, 30)
LEARNT, HELD_OUT = 24, 105
COLUMNS = ("file", "longitude", "latitude", "scene", "split")

RECIPE = (
    CONFIG.replace("epochs = 4", "epochs = 40\nlabel_smoothing = 0.2")
    .replace("batch = 4", f"batch = {LEARNT // 2}")  # micro_batch too
    .replace("dropout = 0.1", "dropout = 0")
    .replace('folder = "photographs"', 'folder = "."')
)


def scene_of(split: str, number: int) -> tuple[int, bool]:
    """Return the place (an index of PLACES) of a picture, and whether it was taken at night."""
    if split == "train":
        return number % 4, number < 4 or number % 8 == 0  # at night: three of Paris, one of each
    if number % 3 == 0:
        return 1 + number // 3 % 3, True
    return number % 4, False


def write(folder: Path) -> Path:
    """Write everything that a run needs; the held-out pictures are its validation photographs.

    Returns the path of the run's configuration.
    """
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (("train", LEARNT), ("validation", HELD_OUT)):
        (folder / split).mkdir()
        for k in range(count):
            place, night = scene_of(split, k)
            colour = NIGHT if night else COLOURS[place]
            pixels = (np.array(colour) + rng.integers(-30, 30, (SIZE, SIZE, 3))).clip(0, 255)
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
    """Write a table of photographs in the format that `geotag train` reads."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def read_table(path: Path) -> list[tuple[str, float, float, str, str]]:
    """Read such a table."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(file, float(lon), float(lat), scene, split) for file, lon, lat, scene, split in rows]
