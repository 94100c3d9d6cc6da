"""How often ImageNet's classes name the right scene, on the labelled test pictures.

    .venv/bin/python -m benchmarks.scenes [--photos FOLDER] [--backbone efficientnet-lite2]

The fallback for networks that were trained without scene labels: no label is used but to score.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from triton_models.landmarks.imagenet_scenes import scene_probabilities
from triton_models.landmarks.scenes import SCENES, commonest, read_labels
from triton_models.networks.backbones import packaged_weights
from triton_models.networks.preprocessing import Normalise
from triton_models.segmenting.photographs import read

SIZE = 256  # px; pictures are squashed to squares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--backbone", default="efficientnet-lite2")
    given = parser.parse_args()
    labels = [label for label in read_labels() if label.part == "test"]
    classify = classifier(given.backbone)
    answers = [
        SCENES[scene_probabilities(classify(read(given.photos / label.file, SIZE))).argmax()]
        for label in labels
    ]
    right = np.array([label.scene == said for label, said in zip(labels, answers, strict=True)])
    clear = np.array([not label.doubtful for label in labels])
    camera = np.array([label.file.startswith("camera/") for label in labels])
    print("| pictures | n | right | the commonest scene |\n|---|---:|---:|---:|")
    for name, chosen in {
        "all": clear | True,
        "not doubtful": clear,
        "straight from cameras": camera,
        "straight from cameras, not doubtful": camera & clear,
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


def classifier(backbone: str):
    """Return a function from a picture, UINT8 [S, S, 3], to ImageNet's probabilities, [1000]."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(backbone, image_size=SIZE)
    network.load_state_dict(packaged_weights(backbone))
    network.eval()
    normalise = Normalise("lite")

    def classify(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = network(normalise(torch.from_numpy(picture[None])))
        return logits.softmax(dim=1)[0].numpy()

    return classify


if __name__ == "__main__":
    main()
