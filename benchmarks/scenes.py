"""Accuracy of scenes from ImageNet's classes, on the labelled test pictures.

    .venv/bin/python -m benchmarks.scenes [--photos FOLDER] [--backbone NAME] [--part test]

This is the fallback for training without scene labels. Labels are used only to score.
"""

import argparse
from pathlib import Path

import numpy as np

from triton_models.landmarks.scenes import PARTS, commonest, read_labels
from triton_models.scenes.classes import SCENES
from triton_models.scenes.labeller import SIZE, SURE, SceneLabeller
from triton_models.segmentation.photographs import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--backbone", default="efficientnet-lite2")
    parser.add_argument("--part", choices=PARTS, default="test")
    given = parser.parse_args()
    labels = [label for label in read_labels() if label.part == given.part]
    labeller = SceneLabeller(given.backbone)
    shares = np.array([labeller.shares(read(given.photos / x.file, SIZE)) for x in labels])
    answers = [SCENES[k] for k in shares.argmax(axis=1)]
    right = np.array([label.scene == said for label, said in zip(labels, answers, strict=True)])
    clear = np.array([not label.doubtful for label in labels])
    camera = np.array([label.file.startswith("camera/") for label in labels])
    print("| pictures | n | right | the commonest scene |\n|---|---:|---:|---:|")
    for name, chosen in {
        "all": clear | True,
        "not doubtful": clear,
        "straight from cameras": camera,
        "straight from cameras, not doubtful": camera & clear,
        "those that geotag scenes labels": shares.max(axis=1) >= SURE,
    }.items():
        of_them = [label for label, yes in zip(labels, chosen, strict=True) if yes]
        constant = np.mean([label.scene == commonest(of_them) for label in of_them])
        print(f"| {name} | {len(of_them)} | {right[chosen].mean():.1%} | {constant:.1%} |")
    print("\n| truth \\ answer | " + " | ".join(SCENES) + " |\n|---|---:|---:|---:|")
    for scene in SCENES:
        said = [
            answer for label, answer in zip(labels, answers, strict=True) if label.scene == scene
        ]
        print(f"| {scene} | " + " | ".join(str(said.count(other)) for other in SCENES) + " |")


if __name__ == "__main__":
    main()
