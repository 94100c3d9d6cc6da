"""From the pixels on the wire to what a network sees; part of every exported graph.

Training, evaluation and serving share this one path, so they cannot drift apart.
"""

import torch
from torch import Tensor, nn

# Per-channel mean and standard deviation of ImageNet's training pictures, RGB in [0, 1]: the values
# that torchvision and timm ship as IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """UINT8 [B, H, W, 3] sRGB pixels → FP32 [B, 3, H, W], mean 0 and deviation 1 on ImageNet."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised picture, channels first."""
        return (image.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


class OneHot(nn.Module):
    """UINT8 [B, H, W] class ids → FP32 [B, classes, H, W]; an id past the end is all zeros."""

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
    """Cut `crops` squares: [B, H, W, ...] → [B, crops, size, size, ...].

    One crop is the centre. Ten are the four corners and the centre, then the same five mirrored
    left to right: the ten-crop protocol of Krizhevsky et al., "ImageNet classification with deep
    convolutional neural networks" (2012), section 4.1. A picture and its class map are cut alike.
    """
    height, width = picture.shape[1:3]
    bottom, right = height - size, width - size
    middle = (bottom // 2, right // 2)
    if crops == 1:
        places = [middle]
    elif crops == 10:
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
    else:
        raise ValueError(f"crops is 1 or 10, not {crops}")
    cut = [picture[:, y : y + size, x : x + size] for y, x in places]
    if crops == 10:
        cut += [part.flip(2) for part in cut]
    return torch.stack(cut, dim=1)
