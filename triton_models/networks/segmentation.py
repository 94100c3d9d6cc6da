"""Encoder–decoder networks for segmentation.

Both decode to stride 4 by a top-down path that adds the finer maps, as in feature pyramid networks
(Lin et al., 2017, arXiv:1612.03144). `Segmentation` encodes with depthwise-separable convolutions,
as in MobileNet (Howard et al., 2017, arXiv:1704.04861). `LiteSegmentation`, which the project
trains, has an EfficientNet-Lite encoder with ImageNet weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from triton_models.networks.backbones import EfficientNetLite, Stem
from triton_models.networks.preprocessing import Normalise

STRIDE = 16  # of the deepest map of `Segmentation`
REDUCTIONS = (4, 8, 16, 32)  # of the maps that `LiteSegmentation` reads


@dataclass(frozen=True)
class SegmentationConfig:
    """Configuration of a `Segmentation`."""

    classes: int
    width: int = 16  # channels at stride 2; they double with each stride
    blocks: int = 2  # blocks at each stride
    image_size: int = 256

    def __post_init__(self) -> None:
        """Raise ValueError for a configuration that cannot be built."""
        if not 2 <= self.classes <= 256:
            raise ValueError(f"class ids travel as UINT8: 2 to 256 classes, not {self.classes}")
        if self.image_size % STRIDE:
            raise ValueError(f"image_size {self.image_size} is not a multiple of {STRIDE}")


def _convolution(
    cin: int, cout: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


def _separable(cin: int, cout: int, stride: int = 1) -> nn.Module:
    """Return a depthwise-separable convolution."""
    return nn.Sequential(
        _convolution(cin, cin, stride=stride, groups=cin), _convolution(cin, cout, kernel=1)
    )


class Segmentation(nn.Module):
    """[B, 3, H, W] normalised pixels → [B, classes, H, W] logits; H and W multiples of 16."""

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        self.config = config
        stem, *deeper = (config.width * 2**k for k in range(4))  # strides 2, 4, 8, 16
        self.stem = _convolution(3, stem, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                _separable(cin, cout, stride=2),
                *(_separable(cout, cout) for _ in range(config.blocks - 1)),
            )
            for cin, cout in pairwise([stem, *deeper])
        )
        self.lateral = nn.ModuleList(nn.Conv2d(n, deeper[0], kernel_size=1) for n in deeper)
        self.smooth = _separable(deeper[0], deeper[0])
        self.head = nn.Conv2d(deeper[0], config.classes, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        x = self.stem(image)
        maps = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        merged = maps.pop()
        while maps:
            merged = maps.pop() + functional.interpolate(merged, scale_factor=2.0)
        logits = self.head(self.smooth(merged))
        return functional.interpolate(logits, scale_factor=4.0, mode="bilinear")


@dataclass(frozen=True)
class LiteSegmentationConfig:
    """Configuration of a `LiteSegmentation`."""

    classes: int
    encoder: Stem = "efficientnet-lite0"
    width: int = 64  # channels of the decoder
    image_size: int = 256

    def __post_init__(self) -> None:
        """Raise ValueError for a configuration that cannot be built."""
        if not 2 <= self.classes <= 256:
            raise ValueError(f"class ids travel as UINT8: 2 to 256 classes, not {self.classes}")
        if not self.encoder.startswith("efficientnet-lite"):
            raise ValueError(f"the encoder is an EfficientNet-Lite, not {self.encoder!r}")
        if self.image_size % REDUCTIONS[-1]:
            raise ValueError(f"image_size {self.image_size} is not a multiple of {REDUCTIONS[-1]}")


class LiteSegmentation(nn.Module):
    """[B, 3, S, S] normalised pixels → [B, classes, S, S] logits, S = image_size.

    The encoder is frozen, so that its maps can be computed once and the decoder trained on them.
    """

    def __init__(self, config: LiteSegmentationConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EfficientNetLite(config.encoder, config.image_size, REDUCTIONS)
        self.encoder.freeze("all")
        self.decoder = UpsamplingDecoder(self.encoder.channels, config.width, config.classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        logits = self.decoder(self.encoder(image))
        return functional.interpolate(logits, scale_factor=float(REDUCTIONS[0]), mode="bilinear")


class UpsamplingDecoder(nn.Module):
    """The encoder's maps, finest first → logits [B, classes, h, w] at the finest one's size."""

    def __init__(self, channels: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, kernel_size=1) for n in channels)
        self.smooth = nn.ModuleList(_separable(width, width) for _ in channels)
        self.head = nn.Conv2d(width, classes, kernel_size=1)
        self.apply(_initialise)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the logits; each map is twice as wide and high as the next."""
        coarse, *finer = [f(x) for f, x in zip(self.lateral, maps, strict=True)][::-1]
        merged = self.smooth[0](coarse)
        for smooth, x in zip(self.smooth[1:], finer, strict=True):
            merged = smooth(x + functional.interpolate(merged, scale_factor=2.0))
        logits: Tensor = self.head(merged)
        return logits


class ServedSegmentation(nn.Module):
    """A segmentation network as it is exported: UINT8 [B, H, W, 3] → UINT8 [B, H, W] class ids."""

    def __init__(self, network: Segmentation | LiteSegmentation) -> None:
        super().__init__()
        self.network = network
        lite = isinstance(network, LiteSegmentation)
        self.normalise = Normalise("lite" if lite else "imagenet")

    def forward(self, image: Tensor) -> Tensor:
        """Return the most probable class of every pixel."""
        logits: Tensor = self.network(self.normalise(image))
        return logits.argmax(dim=1).byte()


def _initialise(module: nn.Module) -> None:
    """Initialise as He et al. (2015), which keeps the variance through the ReLUs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
