"""The landmark photographs: positions, series, sites and folds.

`metadata.csv` (file, place, latitude, longitude, series, commons_title, …) is beside folders of
256 × 256 px pictures. All photographs of a place have the landmark's position.
"""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.model_selection import GroupKFold

from triton_models.cells.distance import Floats, great_circle_km

Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

SIZE = 256
FOLDS = 5
SITE_KM = 250.0
"""Places connected by a chain of distances below this are one site. The Great Wall's five sections
are up to 218 km apart, Stonehenge and the Eiffel Tower 389 km."""


@dataclass(frozen=True, eq=False)
class Photographs:
    """n photographs in the order of the CSV."""

    folder: Path
    files: tuple[str, ...]
    titles: tuple[str, ...]
    """Titles on Wikimedia Commons, for attribution."""
    series: npt.NDArray[np.str_]
    places: tuple[str, ...]
    """The p names, sorted."""
    place: Ints
    """Index into places, [n]."""
    longitude: Floats
    """Degrees, WGS 84, of each place, [p]; so is latitude."""
    latitude: Floats

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sites(self) -> Ints:
        """Return the number of each place's site, [p]."""
        site = np.arange(len(self.places))
        for a, b in np.argwhere(self.distances() < SITE_KM):
            site[site == site[b]] = site[a]
        return np.unique(site, return_inverse=True)[1]

    def distances(self) -> Floats:
        """Return the great-circle distances between the places in km, [p, p]."""
        return great_circle_km(
            self.longitude[:, None], self.latitude[:, None], self.longitude, self.latitude
        )

    def folds(self) -> Ints:
        """Return the fold in which each photograph is held out, [n].

        Folds consist of whole series, are of about equal size, and are always the same.
        """
        fold = np.empty(len(self), np.int64)
        split = GroupKFold(FOLDS).split(self.place, self.place, self.series)
        for k, (_, held_out) in enumerate(split):
            fold[held_out] = k
        return fold

    def pixels(self) -> Pixels:
        """Return all pixels, [n, 256, 256, 3].

        The pictures have the release's size, so the workers' decoder gives the same pixels.
        """
        return np.stack([read_pixels(self.folder / file) for file in self.files])


def read_pixels(path: Path) -> Pixels:
    """Decode one 256 × 256 px picture; raises ValueError for another size, OSError if broken."""
    with Image.open(path) as image:
        if image.size != (SIZE, SIZE):
            raise ValueError(f"{path}: {image.size}, not {SIZE} × {SIZE} px")
        return np.asarray(image.convert("RGB"))


def read_photographs(folder: Path) -> Photographs:
    """Read `folder/metadata.csv`.

    Raises FileNotFoundError where there is none, KeyError where a column is missing, ValueError
    where the photographs of a place differ in position.
    """
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    positions: dict[str, tuple[float, float]] = {}
    for row in rows:
        position = float(row["longitude"]), float(row["latitude"])
        if positions.setdefault(row["place"], position) != position:
            raise ValueError(f"{folder}: {row['place']} has more than one position")
    places = tuple(sorted(positions))
    longitude, latitude = np.array([positions[place] for place in places]).T
    return Photographs(
        folder=folder,
        files=tuple(row["file"] for row in rows),
        titles=tuple(row["commons_title"] for row in rows),
        series=np.array([row["series"] for row in rows]),
        places=places,
        place=np.array([places.index(row["place"]) for row in rows]),
        longitude=longitude,
        latitude=latitude,
    )
