"""TransLocator: scores a picture and its class map over geo-cells and scenes.

The network is that of Pramanick et al., "Where in the World is this Image? Transformer-based
Geo-localization in the Wild" (ECCV 2022). Two vision transformers with separate weights, one on the
RGB picture and one on the one-hot class map, exchange their CLS tokens after every layer k:

    x_i = [ g_i( Σ_{j ∈ {rgb, seg}} f_j(x_cls,j) ) ‖ x_patch,i ]

Each branch has its own linear maps f_j into a common space and g_i out of it. (With one g for both,
the two CLS tokens would be equal.) Four linear heads read the concatenated, normalised CLS tokens.

Instead of patches of pixels, the tokens of the RGB branch can be the feature maps of a pretrained
convolutional network, the stem (a hybrid: Dosovitskiy et al., arXiv:2010.11929, section 3.1).
Without transformer layers, the heads read the mean of the stem's last map: a plain classifier.

Modules inside a branch have the names of timm's ViT, so that its weights load unchanged.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.networks import backbones
from triton_models.networks.backbones import Stem
from triton_models.networks.preprocessing import (
    CROPS,
    NORMALISATIONS,
    Normalisation,
    Normalise,
    OneHot,
    views,
)

# The rows of the published ablation:
#   rgb       one branch, no segmentation
#   stacked   one branch, the class map's channels concatenated to the picture's
#   separate  two branches, joined in the heads only
#   fused     two branches that exchange CLS tokens after every layer: TransLocator
Branches = Literal["rgb", "stacked", "separate", "fused"]


@dataclass(frozen=True)
class TransLocatorConfig:
    """Configuration of a `TransLocator`; the defaults are ViT-B/16 as published."""

    coarse: int  # geo-cells at each level
    middle: int
    fine: int
    scenes: int = 3  # 0: no scene head
    segmentation_classes: int = 150  # ADE20K's
    branches: Branches = "fused"
    width: int = 768
    depth: int = 12  # 0: no transformer, only with a stem and branches = rgb
    heads: int = 12
    mlp_ratio: float = 4.0
    common: int = 768  # dimensions of the common space of the branches
    patch_size: int = 16
    crop_size: int = 224  # side of a crop, the transformers' input
    image_size: int = 256  # side of the picture that crops are cut from
    crops: int = 10
    stem: Stem = "patches"
    reductions: tuple[int, ...] = (32,)  # which of the stem's maps become tokens
    heads_read_stem: bool = False  # the heads read the mean of the stem's last map too
    normalisation: Normalisation = "imagenet"
    dropout: float = 0.0  # after attention and MLP of each layer, and before the heads

    def __post_init__(self) -> None:
        """Raise ValueError for a configuration that cannot be built."""
        object.__setattr__(self, "reductions", tuple(self.reductions))  # JSON knows lists only
        for name, value, known in (
            ("branches", self.branches, get_args(Branches)),
            ("stem", self.stem, get_args(Stem)),
            ("normalisation", self.normalisation, tuple(NORMALISATIONS)),
            ("crops", self.crops, CROPS),
        ):
            if value not in known:
                raise ValueError(f"{name} is one of {known}, not {value!r}")
        for least, names in (
            (0, ("scenes", "depth")),
            (1, ("width", "heads", "common", "patch_size", "crop_size", "image_size")),
        ):
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, int) or value < least:
                    raise ValueError(f"{name} is a whole number from {least} on, not {value!r}")
        if not all(isinstance(side, int) and side > 0 for side in self.reductions):
            raise ValueError(f"reductions are whole numbers from 1 on, not {self.reductions}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {self.dropout!r}")
        if not 1 <= self.mlp_ratio * self.width < math.inf:
            raise ValueError(f"mlp_ratio makes the MLP at least 1 wide, not {self.mlp_ratio!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        for side in (self.patch_size, *(self.reductions if self.stem != "patches" else ())):
            if self.crop_size % side:
                raise ValueError(f"crop_size {self.crop_size} is not a multiple of {side}")
        if self.crop_size > self.image_size:
            raise ValueError(f"cannot cut {self.crop_size} px from {self.image_size} px")
        if self.stem == "patches" and (self.heads_read_stem or not self.depth):
            raise ValueError("depth = 0 and heads_read_stem need a stem other than patches")
        if not self.depth and self.branches != "rgb":
            raise ValueError("depth = 0 is for branches = rgb: the class map needs a transformer")


class Scores(NamedTuple):
    """Logits [B, classes] of each head; `scene` is None in a network without that head."""

    coarse: Tensor
    middle: Tensor
    fine: Tensor
    scene: Tensor | None


class Attention(nn.Module):
    """Multi-head self-attention over [B, N, width]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, width]."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, width / heads]
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.dropout(self.proj(y.transpose(1, 2).flatten(2)))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, applied to each token."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, width]."""
        out: Tensor = self.dropout(self.fc2(functional.gelu(self.fc1(x))))
        return out


class Block(nn.Module):
    """One pre-norm encoder layer."""

    def __init__(self, config: TransLocatorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, config.dropout)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, int(config.width * config.mlp_ratio), config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, width]."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """[B, channels, S, S] → one token for each patch, [B, (S / patch)², width]."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens, row by row."""
        patches: Tensor = self.proj(x)
        return patches.flatten(2).transpose(1, 2)


class MapEmbed(nn.Module):
    """Feature maps [B, channels, h, w] → one token for each of their positions, [B, N, width]."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.proj = nn.ModuleList(nn.Conv2d(n, width, kernel_size=1) for n in channels)

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the tokens, map by map and row by row."""
        tokens = [proj(x).flatten(2) for proj, x in zip(self.proj, maps, strict=True)]
        return torch.cat(tokens, dim=2).transpose(1, 2)


class Branch(nn.Module):
    """The parts of one vision transformer; `TransLocator` runs its layers between fusions."""

    def __init__(self, config: TransLocatorConfig, embed: nn.Module, sides: Sequence[int]) -> None:
        super().__init__()
        tokens = sum((config.crop_size // side) ** 2 for side in sides)
        self.patch_embed = embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def embed(self, *maps: Tensor) -> Tensor:
        """[B, channels, h, w] of each map → [B, 1 + tokens, width]; token 0 is CLS."""
        tokens = self.patch_embed(*maps)
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        return torch.cat([cls, tokens], dim=1) + self.pos_embed


class Fusion(nn.Module):
    """The exchange of CLS tokens after one layer; patch tokens are not changed."""

    def __init__(self, branches: int, width: int, common: int) -> None:
        super().__init__()
        self.f = nn.ModuleList(nn.Linear(width, common) for _ in range(branches))
        self.g = nn.ModuleList(nn.Linear(common, width) for _ in range(branches))

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Return the tokens [B, N, width] of each branch with new CLS tokens."""
        common = torch.stack([f(x[:, 0]) for f, x in zip(self.f, streams, strict=True)]).sum(0)
        return [
            torch.cat([g(common)[:, None], x[:, 1:]], dim=1)
            for g, x in zip(self.g, streams, strict=True)
        ]


class TransLocator(nn.Module):
    """The network without pre-processing: normalised crops to logits."""

    def __init__(self, config: TransLocatorConfig) -> None:
        super().__init__()
        self.config = config
        stem = None
        if config.stem != "patches":
            stem = backbones.build(config.stem, config.crop_size, config.reductions)
        branches = nn.ModuleList(_branches(config, stem.channels if stem else None))
        self.branches = cast(Sequence[Branch], branches)  # torch's lists are not typed
        fusions = config.depth if config.branches == "fused" else 0
        self.fusions = nn.ModuleList(
            Fusion(len(self.branches), config.width, config.common) for _ in range(fusions)
        )
        self._heads_read_stem = config.heads_read_stem or not config.depth
        read = config.width * len(self.branches)
        read += stem.channels[-1] if stem and self._heads_read_stem else 0
        self.dropout = nn.Dropout(config.dropout)
        self.coarse = nn.Linear(read, config.coarse)
        self.middle = nn.Linear(read, config.middle)
        self.fine = nn.Linear(read, config.fine)
        self.scene = nn.Linear(read, config.scenes) if config.scenes else None
        self.apply(_initialise)
        self.stem = stem  # set after `_initialise`, because it has its own initialisation

    def forward(self, image: Tensor, semantics: Tensor) -> Scores:
        """Score [B, 3, S, S] pixels with their [B, classes, S, S] one-hot map, S = crop_size."""
        return self.from_features(self.features(image), semantics)

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the stem's maps [B, channels, S / reduction, S / reduction], or else the pixels.

        With a frozen stem they can be computed once for each picture and stored.
        """
        return (image,) if self.stem is None else self.stem(image)

    def from_features(self, features: Sequence[Tensor], semantics: Tensor) -> Scores:
        """Score the maps that `features` returned, without running the stem."""
        streams = self.embed(features, semantics)
        for layer in range(self.config.depth):
            streams = self.layer(layer, streams)
        read = [branch.norm(x)[:, 0] for branch, x in zip(self.branches, streams, strict=True)]
        if self._heads_read_stem:
            read.append(features[-1].mean(dim=(2, 3)))
        evidence = self.dropout(torch.cat(read, dim=-1))
        scene = None if self.scene is None else self.scene(evidence)
        return Scores(self.coarse(evidence), self.middle(evidence), self.fine(evidence), scene)

    def embed(self, features: Sequence[Tensor], semantics: Tensor) -> list[Tensor]:
        """Return the input tokens of each branch."""
        if not self.branches:
            return []
        if self.config.branches == "stacked":
            features = [torch.cat([x, _shares(semantics, x)], dim=1) for x in features]
        rgb, *seg = self.branches
        return [rgb.embed(*features), *(branch.embed(semantics) for branch in seg)]

    def layer(self, k: int, streams: list[Tensor]) -> list[Tensor]:
        """Run layer k of every branch, then exchange the CLS tokens."""
        streams = [branch.blocks[k](x) for branch, x in zip(self.branches, streams, strict=True)]
        return self.fusions[k](streams) if self.config.branches == "fused" else streams


def _branches(config: TransLocatorConfig, stem: Sequence[int] | None) -> Iterator[Branch]:
    """Yield the RGB branch, then that of the class map; `stem`: channels of the stem's maps."""
    if not config.depth:
        return
    classes, patch = config.segmentation_classes, config.patch_size
    stacked = classes if config.branches == "stacked" else 0
    if stem is None:
        yield Branch(config, PatchEmbed(3 + stacked, config.width, patch), [patch])
    else:
        channels = [n + stacked for n in stem]
        yield Branch(config, MapEmbed(channels, config.width), config.reductions)
    if config.branches in ("separate", "fused"):
        yield Branch(config, PatchEmbed(classes, config.width, patch), [patch])


def _shares(semantics: Tensor, like: Tensor) -> Tensor:
    """Return the share of each class around every position of a map: [B, classes, h, w]."""
    side = semantics.shape[-1] // like.shape[-1]
    return semantics if side == 1 else functional.avg_pool2d(semantics, side)


class ServedLocator(nn.Module):
    """A TransLocator as it is exported, with normalisation and crops in the graph.

    UINT8 [B, H, W, 3] and UINT8 [B, H, W] → logits [B, crops, classes] of the four heads. Crops are
    an axis of the output and not of the batch, because the decoder averages them.
    """

    def __init__(self, network: TransLocator) -> None:
        super().__init__()
        if network.scene is None:
            raise ValueError("a served locator needs its scene head")
        self.network = network
        self.normalise = Normalise(network.config.normalisation)
        self.one_hot = OneHot(network.config.segmentation_classes)

    def forward(self, image: Tensor, class_map: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the coarse, middle, fine and scene logits."""
        config = self.network.config
        pixels, ids = (
            views(x, config.crop_size, config.crops).flatten(0, 1) for x in (image, class_map)
        )
        scores = self.network(self.normalise(pixels), self.one_hot(ids))
        coarse, middle, fine, scene = (x.unflatten(0, (-1, config.crops)) for x in scores)
        return coarse, middle, fine, scene


def _initialise(module: nn.Module) -> None:
    """Initialise with deviation 1/√fan_in, which keeps the variance at any width.

    At ViT-B's width that is 0.036, near the customary 0.02. A narrow network initialised with 0.02
    would hardly depend on its input.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Branch):
        nn.init.trunc_normal_(module.cls_token, std=0.02)
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
