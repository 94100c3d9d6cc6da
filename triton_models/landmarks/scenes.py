"""Hand-made scene labels of photographs: indoor, natural or urban (`scenes.csv`).

One person looked at every picture, at 122 px or more, and answered: *which covers more of what is
neither sky nor people?*

- `indoor`: walls and ceiling around the camera; also a table top or a thing seen from so near that
  no outdoors shows.
- `natural`: land, plants, animals, water, snow and rock. Rock counts as nature even where people
  carved or raised it (Mount Rushmore, Stonehenge).
- `urban`: what people built, from towers and bridges to streets, ships and laid stone (the Great
  Wall's own masonry, the pyramids), in a town or not: Places365's outdoor man-made scenes.

`doubtful` marks pictures with another defensible answer: a bridge over much water, a wall through
wide hills, a pyramid in the sand, a lit waterfall before a town. Accuracies can be stated with and
without them. Pictures that show nothing of the scene are not in the file: a broken one, a print on
paper, lights in the dark, a group before a wall.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from triton_models.scenes.classes import SCENES, Scene

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
LABELS = Path(__file__).with_name("scenes.csv")


@dataclass(frozen=True)
class SceneLabel:
    """The scene of one photograph."""

    file: str  # relative to the folder `photos`: its collection, then the file in that
    scene: Scene
    part: Part  # no series of pictures is in both; pictures straight from cameras only in `test`
    doubtful: bool


def read_labels(path: Path = LABELS) -> list[SceneLabel]:
    """Return the labels in the file's order; raises ValueError with the line that is wrong."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        return [_label(row, f"{path.name}, line {rows.line_num}") for row in rows]


def commonest(labels: Iterable[SceneLabel]) -> Scene:
    """Return the commonest scene, which is the best constant answer."""
    scenes = [label.scene for label in labels]
    return max(SCENES, key=scenes.count)


def _label(row: dict[str, str], where: str) -> SceneLabel:
    scene, part, doubtful = row["scene"], row["part"], row["doubtful"]
    if scene not in SCENES:
        raise ValueError(f"{where}: scene is one of {', '.join(SCENES)}, not {scene!r}")
    if part not in PARTS:
        raise ValueError(f"{where}: part is train or test, not {part!r}")
    if doubtful not in ("", "yes"):
        raise ValueError(f"{where}: doubtful is empty or yes, not {doubtful!r}")
    return SceneLabel(row["file"], scene, part, doubtful == "yes")
