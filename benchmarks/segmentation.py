"""Accuracy of teacher and student at hand-labelled points.

    .venv/bin/python -m benchmarks.segmentation PHOTOS TEACHER.tflite MAPS.npz STUDENT.onnx

`results/segmentation-points.csv` has the class at random points of 48 held-out pictures, or
`unknown` where no class fits (water, rock, snow, ancient stones). Points on an edge, or of which
the person was not sure, are left out.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from triton_models.segmentation.classes import CLASSES, grouped, target
from triton_models.segmentation.maps import Maps
from triton_models.segmentation.photographs import Photograph, read
from triton_models.segmentation.teacher import Teacher, class_map
from triton_models.training.semantics import Segmenter

POINTS = Path(__file__).parent / "results" / "segmentation-points.csv"
ASKED = ("teacher, the picture as it is", "teacher, what its views agree on", "student")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("photos", "teacher", "maps", "student"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    teacher, student = Teacher(given.teacher), Segmenter(given.student)
    taught = Maps.load(given.maps)
    points = defaultdict(list)
    for row in csv.DictReader(POINTS.read_text("utf-8").splitlines()):
        points[row["file"]].append((int(row["x"]), int(row["y"]), CLASSES.index(row["shows"])))
    answers: list[tuple[int, ...]] = []  # what it shows, then what each of ASKED says
    for file, places in points.items():
        picture = read(given.photos / file, taught.size)
        ((_, row),) = taught.rows([Photograph(file, "")])
        said = (
            grouped(class_map(teacher, Image.fromarray(picture))),
            target(taught.ids[row]),
            student(picture[None])[0],
        )
        answers += [(shows, *(int(ids[y, x]) for ids in said)) for x, y, shows in places]
    report(np.array(answers))


def report(answers: np.ndarray) -> None:
    """Print each network's share of right points; `answers`: INT [points, 1 + networks]."""
    shows = answers[:, 0]
    unnamed = shows == CLASSES.index("unknown")
    groups = {"of a class": ~unnamed, "of none: answered unknown": unnamed}
    groups |= {f"of {CLASSES[k]}": shows == k for k in range(1, len(CLASSES)) if (shows == k).any()}
    print("| points | n | " + " | ".join(ASKED) + " |\n|---|---:|---:|---:|---:|")
    for name, chosen in groups.items():
        right = (answers[chosen, 1:] == shows[chosen, None]).mean(axis=0)
        print(
            f"| {name} | {chosen.sum()} | " + " | ".join(f"{share:.0%}" for share in right) + " |"
        )


if __name__ == "__main__":
    main()
