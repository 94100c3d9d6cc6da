"""`geotag scenes`: a table's photographs get the scene that the pictures seem to show."""

import csv
from collections import Counter
from pathlib import Path

from rich.progress import track

from geotag.context import context
from geotag.models import say
from geotag.output import errors
from geotag.train import pictures_of
from triton_models.training.config import ConfigError
from triton_models.training.photographs import read_rows
from triton_models.training.pictures import BadPicture
from triton_models.training.scene_labels import SIZE, SceneLabeller
from workers.errors import UsageError
from workers.photo import InputSpec

COLUMN = "scene"


def run(table: Path, photos: str, out: Path) -> None:
    """Write the table anew, with a scene where it had none and the picture seems to show one.

    Raises:
        UsageError: the table cannot be read, there is no such folder, or `out` is there already.
    """
    if out.exists():
        raise UsageError(f"{out} is there already: choose another --out")
    try:
        rows = read_rows(table)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    with table.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = (cells for cells in csv.reader(file) if cells)
    names = [name.strip().casefold() for name in header]
    at = names.index(COLUMN) if COLUMN in names else len(names)
    pictures = pictures_of(photos, InputSpec(SIZE, SIZE, "squash"), context())
    label, found, bad = SceneLabeller(), Counter[str](), Counter[str]()
    pairs = list(zip(rows, lines, strict=True))
    for row, cells in track(pairs, "looking at photographs", console=errors, transient=True):
        scene = row.scene
        if not scene:
            try:
                scene = label(pictures.read(row.file)[1])
                found[scene] += 1
            except BadPicture as error:
                bad[error.code] += 1
        cells[at : at + 1] = [scene]
    header[at : at + 1] = [header[at] if at < len(header) else COLUMN]
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])
    unsure = found.pop("", 0)
    counts = ", ".join(f"{number:,} {scene}" for scene, number in found.most_common()) or "none"
    say(f"labelled: {counts}; left empty, as not sure: {unsure:,}")
    for code, number in bad.items():
        say(f"left empty, as the picture could not be used: {number:,} ({code})")
