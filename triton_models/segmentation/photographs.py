"""List and read the pictures that a segmentation network is trained on."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class Unusable(ValueError):
    """A file or folder that was given cannot be used; the message says which, and why."""


@dataclass(frozen=True)
class Photograph:
    """One line of a `metadata.csv`."""

    file: str  # relative to the folder of the CSV
    series: str  # pictures of one series show the same scene, so a split must not divide a series


def listed(folder: Path) -> list[Photograph]:
    """Return the photographs of `folder/metadata.csv`, in its order; raises Unusable.

    The column `file` is needed. Without a column `series` every picture is a series of its own.
    """
    table = folder / "metadata.csv"
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except FileNotFoundError:
        raise Unusable(f"{table} is missing: it lists the pictures (file, series)") from None
    if not rows or "file" not in rows[0]:
        raise Unusable(f"{table} has no lines with a column `file`")
    return [Photograph(row["file"], row.get("series") or row["file"]) for row in rows]


def digest(photographs: Sequence[Photograph]) -> str:
    """Return the SHA-256 of the sorted file names, one a line: identifies the training set."""
    names = "".join(f"{name}\n" for name in sorted(photo.file for photo in photographs))
    return hashlib.sha256(names.encode()).hexdigest()


def read(path: Path, size: int) -> np.ndarray:
    """Return the upright picture, scaled to a square: UINT8 [size, size, 3], sRGB.

    Raises OSError or ValueError where the file cannot be decoded.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.array(upright.resize((size, size), Image.Resampling.BICUBIC))  # writable


def readable(
    folder: Path, photographs: Sequence[Photograph], size: int
) -> Iterator[tuple[Photograph, np.ndarray | None]]:
    """Yield every photograph with its pixels, or with None where it cannot be read."""
    for photo in photographs:
        try:
            yield photo, read(folder / photo.file, size)
        except (OSError, ValueError):
            yield photo, None
