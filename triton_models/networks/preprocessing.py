"""Preprocessing from UINT8 pixels to a network's input, as part of every exported graph.

Training, evaluation and serving share this code, so they cannot differ.
"""

from typing import Literal

import torch
from torch import Tensor, nn

# Per-channel mean and standard deviation of ImageNet's training pictures, RGB in [0, 1]: the values
# that torchvision and timm ship as IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Published weights expect the normalisation that they were trained with:
#   imagenet  torchvision's ResNets and most of timm's networks
#   half      ViTs from ImageNet-21k: from -1 to 1 (timm's IMAGENET_INCEPTION_MEAN and _STD)
#   lite      EfficientNet-Lite (MEAN_RGB and STDDEV_RGB of TensorFlow's efficientnet_lite_builder)
Normalisation = Literal["imagenet", "half", "lite"]
NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),
}

CROPS = (1, 2, 10)


class Normalise(nn.Module):
    """UINT8 [B, H, W, 3] sRGB pixels → FP32 [B, 3, H, W], by default mean 0 and deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation = "imagenet") -> None:
        super().__init__()
        mean, std = NORMALISATIONS[normalisation]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised picture, channels first."""
        return (image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


class OneHot(nn.Module):
    """UINT8 [B, H, W] class ids → FP32 [B, classes, H, W]; an id ≥ classes gives only zeros."""

    ids: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        if not 1 <= classes <= 256:
            raise ValueError(f"class ids travel as UINT8: 1 to 256 classes, not {classes}")
        ids = torch.arange(classes, dtype=torch.int32).view(classes, 1, 1)
        self.register_buffer("ids", ids, persistent=False)

    def forward(self, class_map: Tensor) -> Tensor:
        """Return one map of zeros and ones for each class."""
        return (class_map[:, None].int() == self.ids).float()


def views(picture: Tensor, size: int, crops: int) -> Tensor:
    """Return `crops` square crops: [B, H, W, ...] → [B, crops, size, size, ...].

    One crop is the centre; two are the centre and its mirror image. Ten are the four corners and
    the centre, then the same five mirrored left to right: the ten-crop protocol of Krizhevsky et
    al., "ImageNet classification with deep convolutional neural networks" (2012), section 4.1. A
    picture and its class map are cropped alike.
    """
    if crops not in CROPS:
        raise ValueError(f"crops is one of {CROPS}, not {crops}")
    height, width = picture.shape[1:3]
    bottom, right = height - size, width - size
    middle = (bottom // 2, right // 2)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places = [*corners, middle] if crops == 10 else [middle]
    cut = [picture[:, y : y + size, x : x + size] for y, x in places]
    if crops > 1:
        cut += [part.flip(2) for part in cut]
    return torch.stack(cut, dim=1)
