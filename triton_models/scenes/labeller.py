"""Label the scenes of photographs with a classifier of ImageNet's 1,000 classes.

`scenes.imagenet` defines which classes vote for which scene. A photograph gets a label only where
one scene has most of the votes. `benchmarks.scenes` measures how often that is so, and is right.
"""

import numpy as np
import numpy.typing as npt
import torch

from triton_models.networks.backbones import Stem, packaged_weights
from triton_models.networks.preprocessing import Normalise
from triton_models.scenes.classes import SCENES
from triton_models.scenes.imagenet import scene_probabilities

SIZE = 256  # px; pictures are scaled to squares without keeping their aspect
SURE = 0.7  # least share of the votes for a label; benchmarks/results/scenes.md


class SceneLabeller:
    """Maps UINT8 [SIZE, SIZE, 3] sRGB pixels to the name of a scene, or to "" where not sure."""

    def __init__(self, backbone: Stem = "efficientnet-lite2") -> None:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

        self._network = EfficientNet.from_name(backbone, image_size=SIZE)
        self._network.load_state_dict(packaged_weights(backbone))
        self._network.eval()
        self._normalise = Normalise("lite")

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> str:
        """Return the scene of one picture."""
        shares = self.shares(pixels)
        return SCENES[int(shares.argmax())] if shares.max() >= SURE else ""

    def shares(self, pixels: npt.NDArray[np.uint8]) -> np.ndarray:
        """Return each scene's share of the votes, [3]."""
        with torch.inference_mode():
            logits = self._network(self._normalise(torch.from_numpy(np.array(pixels[None]))))
        return scene_probabilities(logits.softmax(dim=1)[0].numpy())
