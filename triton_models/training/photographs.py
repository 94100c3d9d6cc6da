"""The training photographs: the rows of a CSV file, and their class labels for every head."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triton_models.cells.geocells import Hierarchy
from triton_models.evaluation.tables import ID, LATITUDE, LONGITUDE, Problem, position
from triton_models.training.config import ConfigError

HEADS = ("coarse", "middle", "fine", "scene")
NO_LABEL = -1
SCENE = ("scene", "s3_label")


@dataclass(frozen=True, eq=False)
class Photographs:
    """n photographs: file names, positions in degrees (WGS 84), class indices of the four heads."""

    files: tuple[str, ...]
    longitude: npt.NDArray[np.float64]
    latitude: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    """[n, 4] in the order of HEADS; -1 where there is no label."""

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the CSV file."""

    file: str
    longitude: float
    latitude: float
    scene: str
    split: str


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file with the column names of `geotag evaluate` and optionally a split.

    The published tables of MP-16 and of the benchmarks load unchanged. The scene is a name (scene)
    or a class index (S3_Label). Raises ConfigError with the line where the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            columns = [name.strip().casefold() for name in next(lines, [])]
            wanted = [_column(path, columns, names) for names in (ID, LONGITUDE, LATITUDE)]
            others = [columns.index(n) if n in columns else None for n in (*SCENE, "split")]
            return [_row(path, lines.line_num, cells, wanted, others) for cells in lines if cells]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> int:
    found = [at for at, column in enumerate(columns) if column in names]
    if len(found) != 1:
        raise ConfigError(
            f"{path}: {'several columns' if found else 'no column'} {' or '.join(names)}"
        )
    return found[0]


def _row(
    path: Path,
    number: int,
    cells: Sequence[str],
    wanted: Sequence[int],
    others: Sequence[int | None],
) -> Row:
    try:
        file, longitude, latitude = (cells[at].strip() for at in wanted)
        scene, label, split = ("" if at is None else cells[at].strip() for at in others)
    except IndexError as error:
        raise ConfigError(f"{path}, line {number}: fewer cells than columns") from error
    if not file:
        raise ConfigError(f"{path}, line {number}: no file")
    found = position(longitude, latitude)
    if isinstance(found, Problem):
        raise ConfigError(f"{path}, line {number}: no position: {found.detail}")
    return Row(file, *found, scene or label, split)


def select(
    rows: Sequence[Row], splits: Collection[str], hierarchy: Hierarchy, scenes: Sequence[str]
) -> Photographs:
    """Return the photographs of some splits with their labels.

    A position outside all cells of a partition, or an empty scene, is NO_LABEL for that head.
    Raises ConfigError where a row has a scene that is not among `scenes`.
    """
    chosen = [row for row in rows if row.split in splits]
    scene = scene_classes(chosen, scenes)
    longitude = np.array([row.longitude for row in chosen])
    latitude = np.array([row.latitude for row in chosen])
    cells = [partition.locate(longitude, latitude) for partition in hierarchy.partitions]
    labels = np.stack([*cells, np.array(scene)], axis=1).astype(np.int64).reshape(-1, len(HEADS))
    return Photographs(tuple(row.file for row in chosen), longitude, latitude, labels)


def scene_classes(rows: Sequence[Row], scenes: Sequence[str]) -> list[int]:
    """Return the class of each row's scene, given by name or number; NO_LABEL where it is empty.

    Raises ConfigError for an unknown scene.
    """
    index = {"": NO_LABEL}
    for k, name in enumerate(scenes):
        index |= {name: k, str(k): k}
    if unknown := {row.scene for row in rows} - index.keys():
        raise ConfigError(f"scene {sorted(unknown)[0]!r} is none of {', '.join(scenes)}")
    return [index[row.scene] for row in rows]
