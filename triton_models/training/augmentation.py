"""Augmentation of photographs; a class map is warped by the same grid as its picture.

Variations are drawn on the CPU from the seed and the photograph's position in the run. So they do
not depend on the number of processes or on interruptions. Pixels are warped later, in batches, on
the network's device.
"""

import math

import numpy as np
from torch import Tensor
from torch.nn import functional

from triton_models.training.config import Augmentation

VARIATION = 9  # numbers: a 2 × 3 matrix, then brightness, contrast, saturation

# Luma of an RGB pixel (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def draw(config: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draw one photograph's variation, float32 [VARIATION].

    The matrix maps positions of the result (x, y from -1 to 1) to positions of the picture, as for
    `torch.nn.functional.affine_grid`. It is a crop of random area and aspect (Szegedy et al.,
    arXiv:1409.4842, section 6), rotated and mirrored.
    """
    area = rng.uniform(*config.area)
    aspect = math.exp(rng.uniform(-1, 1) * math.log(config.aspect))
    width, height = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
    x, y = rng.uniform(-1, 1) * (1 - width), rng.uniform(-1, 1) * (1 - height)
    angle = math.radians(rng.uniform(-1, 1) * config.rotation)
    mirror = -1.0 if rng.uniform() < config.mirror else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = [width * cos * mirror, -width * sin, x, height * sin * mirror, height * cos, y]
    colour = 1 + rng.uniform(-1, 1, 3) * config.colour
    return np.array([*matrix, *colour], np.float32)


def unchanged(side: float = 1.0) -> np.ndarray:
    """Return the identity variation; `side`: the share of each side to keep, at the centre."""
    return np.array([side, 0, 0, 0, side, 0, 1, 1, 1], np.float32)


def warp(picture: Tensor, variation: Tensor, size: int, mode: str) -> Tensor:
    """Warp [B, C, S, S] by variations [B, VARIATION] to [B, C, size, size].

    `mode`: bilinear for pixels, nearest for class ids. Positions outside are reflected at the edge.
    """
    shape = (len(picture), picture.shape[1], size, size)
    grid = functional.affine_grid(variation[:, :6].view(-1, 2, 3), list(shape), align_corners=False)
    return functional.grid_sample(
        picture, grid, mode=mode, padding_mode="reflection", align_corners=False
    )


def recolour(pixels: Tensor, variation: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of pixels [B, 3, H, W] from 0 to 255."""
    brightness, contrast, saturation = (
        part.view(-1, 1, 1, 1) for part in variation[:, 6:].unbind(dim=1)
    )
    luma = pixels.new_tensor(_LUMA).view(3, 1, 1)
    pixels = pixels * brightness
    mean = (pixels * luma).sum(1, keepdim=True).mean(dim=(2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * contrast
    grey = (pixels * luma).sum(1, keepdim=True)
    return (grey + (pixels - grey) * saturation).clamp(0, 255)


def vary(
    image: Tensor, class_map: Tensor | None, variation: Tensor, size: int
) -> tuple[Tensor, Tensor | None]:
    """Return augmented pixels [B, size, size, 3] and class ids [B, size, size].

    The inputs are UINT8 [B, S, S, 3] and UINT8 [B, S, S]. Pixels are FP32 from 0 to 255, ids UINT8.
    """
    pixels = warp(image.permute(0, 3, 1, 2).float(), variation, size, "bilinear")
    pixels = recolour(pixels, variation).permute(0, 2, 3, 1)
    if class_map is None:
        return pixels, None
    return pixels, warp(class_map[:, None].float(), variation, size, "nearest")[:, 0].byte()
