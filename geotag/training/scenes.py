"""`geotag scenes`: label the photographs of a table with the scene that a classifier sees."""

import csv
from collections import Counter
from pathlib import Path

from rich.progress import track

from geotag.context import make_context
from geotag.output import errors
from geotag.training.train import pictures_of, say
from triton_models.scenes.labeller import SIZE, SceneLabeller
from triton_models.training.config import ConfigError, Data
from triton_models.training.photographs import Row, read_rows
from triton_models.training.pictures import BadPicture, Pictures
from workers.errors import UsageError
from workers.photo.reading import InputSpec

COLUMN = "scene"
HELD_OUT = Data.model_fields["validation_splits"].default
"""Splits that are not labelled: accuracy is not measured against a classifier's guess."""


def run(table: Path, photos: str, out: Path) -> None:
    """Write a copy of the table with its missing scenes filled in, if the classifier is sure.

    Raises:
        UsageError: the table cannot be read, no picture can be read, or `out` exists or cannot be
            written.
    """
    try:
        if out.exists():
            raise UsageError(f"{out} exists already: choose another --out")
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    try:
        rows = read_rows(table)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    scenes = _scenes(rows, pictures_of(photos, InputSpec(SIZE, SIZE, "squash"), make_context()))
    with table.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = (cells for cells in csv.reader(file) if cells)
    names = [name.strip().casefold() for name in header]
    if COLUMN not in names:
        header.append(COLUMN)
        names.append(COLUMN)
    at = names.index(COLUMN)
    for cells, scene in zip(lines, scenes, strict=True):
        cells += [""] * (len(header) - len(cells))
        cells[at] = scene
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


def _scenes(rows: list[Row], pictures: Pictures) -> list[str]:
    """Return the scene of each row, "" if unknown; print the number of each."""
    label, found, bad, scenes = SceneLabeller(), Counter[str](), Counter[str](), []
    for row in track(rows, "looking at photographs", console=errors, transient=True):
        scene = row.scene
        if not scene and row.split not in HELD_OUT:
            try:
                scene = label(pictures.read(row.file)[1])
                found[scene] += 1
            except BadPicture as error:
                bad[error.code] += 1
        scenes.append(scene)
    if bad and not found:
        codes = ", ".join(f"{number:,} {code}" for code, number in bad.items())
        raise UsageError(f"no picture could be used ({codes}): --photos says where they are")
    unsure = found.pop("", 0)
    counts = ", ".join(f"{number:,} {scene}" for scene, number in found.most_common()) or "none"
    say(f"labelled: {counts}; left empty, as not sure: {unsure:,}")
    for code, number in bad.items():
        say(f"left empty, as the picture could not be used: {number:,} ({code})")
    if held_out := sum(not row.scene and row.split in HELD_OUT for row in rows):
        say(f"left empty, as held out: {held_out:,}")
    return scenes
