"""The network in training: pictures to scores, with pre-processing and augmentation on the GPU."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from triton_models.networks.preprocessing import Normalise, OneHot, views
from triton_models.networks.translocator import Scores, TransLocator
from triton_models.training.augmentation import vary


class Learner(nn.Module):
    """Scores UINT8 pictures with their class maps and variations.

    `precision`: with bf16, matrix products are computed in bfloat16.
    """

    def __init__(self, network: TransLocator, precision: str = "fp32") -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(network.config.normalisation)
        self.one_hot = OneHot(network.config.segmentation_classes)
        self.bf16 = precision == "bf16"
        self.sees_map = network.config.branches != "rgb"

    def forward(self, image: Tensor, class_map: Tensor, variation: Tensor) -> Scores:
        """Score augmented pictures: [B, S, S, 3], [B, S, S] (or [B, 0, 0]) and [B, VARIATION]."""
        size = self.network.config.crop_size
        pixels, ids = vary(image, class_map if self.sees_map else None, variation, size)
        return self._score(pixels, ids)

    def centre(self, image: Tensor, class_map: Tensor) -> Scores:
        """Score the centre crops of pictures."""
        size = self.network.config.crop_size
        ids = views(class_map, size, 1)[:, 0] if self.sees_map else None
        return self._score(views(image, size, 1)[:, 0], ids)

    def _score(self, pixels: Tensor, ids: Tensor | None) -> Scores:
        half = torch.autocast(pixels.device.type, torch.bfloat16) if self.bf16 else nullcontext()
        with half:
            # A network with branches = rgb does not read the map.
            semantics = pixels.new_empty(0) if ids is None else self.one_hot(ids)
            scores: Scores = self.network(self.normalise(pixels), semantics)
        return scores
