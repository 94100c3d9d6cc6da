"""TransLocator: from a picture and its semantic map to scores over places and scenes.

The network of Pramanick et al., "Where in the World is this Image? Transformer-based
Geo-localization in the Wild" (ECCV 2022). Two vision transformers with weights of their own, one
on the RGB picture and one on the one-hot class map, exchange their CLS tokens after every layer k:

    x_i = [ g_i( Σ_{j ∈ {rgb, seg}} f_j(x_cls,j) ) ‖ x_patch,i ]

with branch-own linear maps f_j into a common space and g_i out of it. (With one g for both, the
two CLS tokens would be the same.) Four linear heads read the concatenated, normalised CLS tokens.

Modules inside a branch are named as timm names a ViT's, so that its weights load as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.networks.preprocessing import Normalise, OneHot, views

# The published ablation, as one switch:
#   rgb       one branch, no segmentation
#   stacked   one branch, the class map's channels concatenated to the picture's
#   separate  two branches that meet in the heads only
#   fused     two branches that exchange CLS tokens after every layer: TransLocator
Branches = Literal["rgb", "stacked", "separate", "fused"]


@dataclass(frozen=True)
class TransLocatorConfig:
    """What a TransLocator is made of; the defaults are ViT-B/16 as published."""

    coarse: int  # geo-cells at each level
    middle: int
    fine: int
    scenes: int = 3  # 0: no scene head
    segmentation_classes: int = 150  # ADE20K's
    branches: Branches = "fused"
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    common: int = 768  # dimensions of the space in which the branches meet
    patch_size: int = 16
    crop_size: int = 224  # side of what the transformers see
    image_size: int = 256  # side of what is served; crops are cut from it
    crops: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.branches not in get_args(Branches):
            raise ValueError(f"branches is one of {get_args(Branches)}, not {self.branches!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.crop_size % self.patch_size:
            raise ValueError(f"crop_size {self.crop_size} is not a multiple of {self.patch_size}")
        if self.crop_size > self.image_size:
            raise ValueError(f"cannot cut {self.crop_size} px from {self.image_size} px")
        if self.crops not in (1, 10):
            raise ValueError(f"crops is 1 or 10, not {self.crops}")

    @property
    def channels(self) -> dict[str, int]:
        """Input channels of each branch."""
        rgb, seg = 3, self.segmentation_classes
        if self.branches == "rgb":
            return {"rgb": rgb}
        if self.branches == "stacked":
            return {"stacked": rgb + seg}
        return {"rgb": rgb, "seg": seg}


class Scores(NamedTuple):
    """Logits [B, classes] of each head; `scene` is None in a network without that head."""

    coarse: Tensor
    middle: Tensor
    fine: Tensor
    scene: Tensor | None


class Attention(nn.Module):
    """Multi-head self-attention over [B, N, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what every token gathers from all tokens."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, width / heads]
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        y = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between, on each token by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, N, width]."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """One encoder layer, normalised before each half."""

    def __init__(self, config: TransLocatorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, int(config.width * config.mlp_ratio))

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


class Branch(nn.Module):
    """The parts of one vision transformer; `TransLocator` runs its layers between fusions."""

    def __init__(self, config: TransLocatorConfig, channels: int) -> None:
        super().__init__()
        tokens = (config.crop_size // config.patch_size) ** 2
        self.patch_embed = PatchEmbed(channels, config.width, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def embed(self, x: Tensor) -> Tensor:
        """[B, channels, S, S] → [B, 1 + patches, width]; token 0 is CLS."""
        patches = self.patch_embed(x)
        cls = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([cls, patches], dim=1) + self.pos_embed


class Fusion(nn.Module):
    """The exchange of CLS tokens after one layer; patches pass untouched."""

    def __init__(self, branches: int, width: int, common: int) -> None:
        super().__init__()
        self.f = nn.ModuleList(nn.Linear(width, common) for _ in range(branches))
        self.g = nn.ModuleList(nn.Linear(common, width) for _ in range(branches))

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Tokens [B, N, width] of each branch in, the same out."""
        common = torch.stack([f(x[:, 0]) for f, x in zip(self.f, streams, strict=True)]).sum(0)
        return [
            torch.cat([g(common)[:, None], x[:, 1:]], dim=1)
            for g, x in zip(self.g, streams, strict=True)
        ]


class TransLocator(nn.Module):
    """The network proper: normalised crops in, logits out."""

    def __init__(self, config: TransLocatorConfig) -> None:
        super().__init__()
        self.config = config
        branches = nn.ModuleList(Branch(config, n) for n in config.channels.values())
        self.branches = cast(Sequence[Branch], branches)  # torch's lists are not typed
        fusions = config.depth if config.branches == "fused" else 0
        self.fusions = nn.ModuleList(
            Fusion(len(self.branches), config.width, config.common) for _ in range(fusions)
        )
        pair = config.width * len(self.branches)
        self.coarse = nn.Linear(pair, config.coarse)
        self.middle = nn.Linear(pair, config.middle)
        self.fine = nn.Linear(pair, config.fine)
        self.scene = nn.Linear(pair, config.scenes) if config.scenes else None
        self.apply(_initialise)

    def forward(self, image: Tensor, semantics: Tensor) -> Scores:
        """Score [B, 3, S, S] pixels with their [B, classes, S, S] one-hot map, S = crop_size."""
        streams = self.embed(image, semantics)
        for layer in range(self.config.depth):
            streams = self.layer(layer, streams)
        pair = [branch.norm(x)[:, 0] for branch, x in zip(self.branches, streams, strict=True)]
        cls = torch.cat(pair, dim=-1)
        scene = None if self.scene is None else self.scene(cls)
        return Scores(self.coarse(cls), self.middle(cls), self.fine(cls), scene)

    def embed(self, image: Tensor, semantics: Tensor) -> list[Tensor]:
        """Return the tokens with which each branch starts."""
        if self.config.branches == "rgb":
            inputs = [image]
        elif self.config.branches == "stacked":
            inputs = [torch.cat([image, semantics], dim=1)]
        else:
            inputs = [image, semantics]
        return [branch.embed(x) for branch, x in zip(self.branches, inputs, strict=True)]

    def layer(self, k: int, streams: list[Tensor]) -> list[Tensor]:
        """Run layer k of every branch, then the exchange of CLS tokens."""
        streams = [branch.blocks[k](x) for branch, x in zip(self.branches, streams, strict=True)]
        return self.fusions[k](streams) if self.config.branches == "fused" else streams


class ServedLocator(nn.Module):
    """A TransLocator as it is exported: pixels and class ids in; normalisation and crops inside.

    UINT8 [B, H, W, 3] and UINT8 [B, H, W] → logits [B, crops, classes] of the four heads. Crops
    are an axis of the answer, not of the batch: the decoder decides how to average them.
    """

    def __init__(self, network: TransLocator) -> None:
        super().__init__()
        if network.scene is None:
            raise ValueError("a served locator needs its scene head")
        self.network = network
        self.normalise = Normalise()
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
    """Keep the variance of what passes: deviation 1/√fan_in, whatever the width.

    At ViT-B's width that is 0.036, near the customary 0.02; a narrow network initialised at 0.02
    would hardly react to its input.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Branch):
        nn.init.trunc_normal_(module.cls_token, std=0.02)
        nn.init.trunc_normal_(module.pos_embed, std=0.02)
