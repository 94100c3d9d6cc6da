"""Scene accuracy of the release `landmarks` on hand-labelled pictures straight from cameras.

`python -m benchmarks.landmark_scenes ../shared/photos` evaluates the TEST part of `scenes.csv` in
the folder `camera`. No network was trained on these pictures.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.landmarks import LIMITS, SPEC
from triton_models.fitting.reliability import wilson
from triton_models.landmarks.scenes import read_labels
from triton_models.release.release import RELEASES, Release
from triton_models.release.serving import ReleaseRunner
from triton_models.scenes.classes import SCENES
from workers.photo.reading import read_photo


def share(right: np.ndarray) -> dict:
    return {
        "photographs": len(right),
        "right": int(right.sum()),
        "accuracy": round(float(right.mean()), 4),
        "interval": [round(x, 4) for x in wilson(int(right.sum()), len(right))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, help="the folder with camera")
    parser.add_argument("--release", type=Path, default=RELEASES / "landmarks")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    locator = ReleaseRunner(Release.load(arguments.release))
    labels = [x for x in read_labels() if x.part == "test" and x.file.startswith("camera/")]
    pictures = (read_photo((arguments.photos / x.file).read_bytes(), SPEC, LIMITS) for x in labels)
    said = [SCENES[int(locator(picture.pixels).scene.argmax())] for picture in pictures]
    right = np.array([scene == label.scene for scene, label in zip(said, labels, strict=True)])
    doubtful = np.array([label.doubtful for label in labels])
    truth = np.array([label.scene for label in labels])
    result = {
        "release": locator.release.digest,
        "all": share(right),
        "without_doubtful": share(right[~doubtful]),
        **{scene: share(right[truth == scene]) for scene in SCENES},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
