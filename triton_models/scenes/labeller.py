"""Scenes for photographs that nobody labelled: what a classifier of ImageNet's 1,000 things says.

`scenes.imagenet` has which things vote for which scene. A label is only given where one
scene has most of the votes; `benchmarks.scenes` measures how often that is, and is right.
"""

import numpy as np
import torch

from triton_models.networks.backbones import Stem, packaged_weights
from triton_models.networks.preprocessing import Normalise
from triton_models.scenes.classes import SCENES
from triton_models.scenes.imagenet import scene_probabilities
from triton_models.training.pictures import Pixels

SIZE = 256  # px; pictures are squashed to squares
SURE = 0.7  # share of the votes; benchmarks/results/scenes.md


class SceneLabeller:
    """UINT8 [SIZE, SIZE, 3] sRGB pixels → the name of a scene, or "" where that is not sure."""

    def __init__(self, backbone: Stem = "efficientnet-lite2") -> None:
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

        self._network = EfficientNet.from_name(backbone, image_size=SIZE)
        self._network.load_state_dict(packaged_weights(backbone))
        self._network.eval()
        self._normalise = Normalise("lite")

    def __call__(self, pixels: Pixels) -> str:
        """Label one picture."""
        shares = self.shares(pixels)
        return SCENES[int(shares.argmax())] if shares.max() >= SURE else ""

    def shares(self, pixels: Pixels) -> np.ndarray:
        """Each scene's share of the votes, [3]."""
        with torch.inference_mode():
            logits = self._network(self._normalise(torch.from_numpy(np.array(pixels[None]))))
        return scene_probabilities(logits.softmax(dim=1)[0].numpy())
