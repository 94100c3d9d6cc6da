"""The photographs to learn from: a CSV's rows, and the class that each is in for every head."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triton_models.geocells import Hierarchy
from triton_models.training.config import ConfigError

HEADS = ("coarse", "middle", "fine", "scene")
NO_LABEL = -1


@dataclass(frozen=True, eq=False)
class Photographs:
    """n photographs: file names, positions in degrees (WGS 84), class indices of the four heads."""

    files: tuple[str, ...]
    longitude: npt.NDArray[np.float64]
    latitude: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    """[n, 4] in the order of HEADS; -1 where there is no label, and no loss."""

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Row:
    """A line of the CSV."""

    file: str
    longitude: float
    latitude: float
    scene: str
    split: str


def read_rows(path: Path) -> list[Row]:
    """Read a CSV with columns file, latitude, longitude, and perhaps scene and split.

    Raises ConfigError where it cannot be read, with the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            missing = {"file", "latitude", "longitude"} - set(lines.fieldnames or ())
            if missing:
                raise ConfigError(f"{path}: no column {', '.join(sorted(missing))}")
            return [_row(path, lines.line_num, line) for line in lines]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error


def _row(path: Path, number: int, line: dict[str, str | None]) -> Row:
    try:
        longitude, latitude = float(line["longitude"] or ""), float(line["latitude"] or "")
    except ValueError as error:
        raise ConfigError(f"{path}, line {number}: no position: {error}") from error
    if not (abs(longitude) <= 180 and abs(latitude) <= 90):
        raise ConfigError(f"{path}, line {number}: {longitude}, {latitude} is no position")
    if not line["file"]:
        raise ConfigError(f"{path}, line {number}: no file")
    return Row(line["file"], longitude, latitude, line.get("scene") or "", line.get("split") or "")


def select(
    rows: Sequence[Row], splits: Collection[str], hierarchy: Hierarchy, scenes: Sequence[str]
) -> Photographs:
    """Return the photographs of some splits with their labels.

    A place outside every cell of a partition, or no scene, is NO_LABEL for that head. Raises
    ConfigError where a row names a scene that is not among `scenes`.
    """
    chosen = [row for row in rows if row.split in splits]
    index = {"": NO_LABEL} | {name: k for k, name in enumerate(scenes)}
    if unknown := {row.scene for row in chosen} - index.keys():
        raise ConfigError(f"scene {sorted(unknown)[0]!r} is none of {', '.join(scenes)}")
    longitude = np.array([row.longitude for row in chosen])
    latitude = np.array([row.latitude for row in chosen])
    cells = [partition.locate(longitude, latitude) for partition in hierarchy.partitions]
    scene = [index[row.scene] for row in chosen]
    labels = np.stack([*cells, np.array(scene)], axis=1).astype(np.int64).reshape(-1, len(HEADS))
    return Photographs(tuple(row.file for row in chosen), longitude, latitude, labels)
