"""Load pretrained weights from local files: ViTs with timm's or Hugging Face's names, and stems.

Both branches of a TransLocator start from the same ViT. A branch for class maps keeps the random
weights of its patch embedding, because it has other input channels than a picture. It gets all
other weights (layers, CLS token, positions, last norm), because what a transformer learnt about
composition and neighbourhood applies to class maps too.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from triton_models.networks.backbones import Backbone, packaged_weights
from triton_models.networks.translocator import Branch, TransLocator

Weights = Mapping[str, Tensor]


class WeightsError(ValueError):
    """The file does not have the weights of this network; the message names the tensors."""


# Names of Hugging Face's ViTModel (without a model's prefix) → timm's names.
_HUGGING_FACE = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.(.+)", r"blocks.\1.norm1.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.(.+)", r"blocks.\1.norm2.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(.+)", r"\1/\2/\3"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (r"layernorm\.(.+)", r"norm.\1"),
)
# Heads of classification, distillation and pooling, which are not loaded.
_LEFT_OUT = re.compile(
    r"(head|head_dist|fc_norm|pre_logits|classifier|pooler)\.|lm_head|mask_token"
)


def load_vit(network: TransLocator, path: Path) -> None:
    """Load a pretrained ViT into every branch.

    Position embeddings of another picture size are interpolated. Raises WeightsError, and changes
    nothing then.
    """
    if network.config.stem != "patches" or not network.config.depth:
        raise WeightsError(f"{path}: a network with the stem {network.config.stem} is no ViT")
    given = timm_names(read(path))
    prepared = [_for_branch(branch, given, path) for branch in network.branches]
    for branch, weights in zip(network.branches, prepared, strict=True):
        branch.load_state_dict(weights)


def load_stem(stem: Backbone, source: Path | str) -> None:
    """Load a stem's weights from a file or, for `package`, from its package.

    The head and the layers behind the last map are left out. Raises WeightsError, and changes
    nothing then.
    """
    given = packaged_weights(stem.name) if source == "package" else read(Path(source))
    left_out = ("fc.", "_fc.", "classifier.", *stem.cut)
    given = {k: v for k, v in given.items() if not k.startswith(left_out)}
    network = stem.published
    _check(network.state_dict(), given, Path(source))
    network.load_state_dict(given)


def read(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, or a torch file that contains only tensors.

    Raises WeightsError where it is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error
    except (
        SafetensorError,
        UnpicklingError,
        RuntimeError,
        ValueError,
        LookupError,
        EOFError,
    ) as error:
        raise WeightsError(f"{path}: no file of weights: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise WeightsError(f"{path}: no dictionary of tensors")
    return found


def timm_names(weights: Weights) -> dict[str, Tensor]:
    """Return a ViT's tensors under timm's names, without its classification head.

    An unknown name is kept, so that the check of names reports it.
    """
    named: dict[str, Tensor] = {}
    for name, x in weights.items():
        bare = re.sub(r"^(vit|deit|model|module)\.", "", name)
        if not _LEFT_OUT.match(bare):
            named[_timm_name(bare)] = x
    return _joined(named)


def _timm_name(name: str) -> str:
    for pattern, replacement in _HUGGING_FACE:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def _joined(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with query, key and value of a layer (`LAYER/query/weight` …) joined."""
    joined = {name: x for name, x in named.items() if "/" not in name}
    for name in named:
        layer, _, rest = name.partition("/")
        part, _, kind = rest.partition("/")
        if part == "query":
            three = [f"{layer}/{p}/{kind}" for p in ("query", "key", "value")]
            if missing := [p for p in three if p not in named]:
                raise WeightsError(f"missing: {missing[0].replace('/', '.')} beside the query")
            joined[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat([named[p] for p in three])
    return joined


def _for_branch(branch: Branch, given: Weights, path: Path) -> dict[str, Tensor]:
    own = branch.state_dict()
    weights = dict(given)
    if "pos_embed" in weights and weights["pos_embed"].ndim == 3:
        weights["pos_embed"] = interpolated(weights["pos_embed"], own["pos_embed"].shape[1])
    if own["patch_embed.proj.weight"].shape[1] != 3:  # channels other than red, green, blue
        for name in ("patch_embed.proj.weight", "patch_embed.proj.bias"):
            weights[name] = own[name]
    _check(own, weights, path)
    return weights


def interpolated(positions: Tensor, tokens: int) -> Tensor:
    """Resample position embeddings [1, 1 + n, width] to another square grid, [1, tokens, width].

    The CLS token's embedding, which comes first, is kept. The grid's are resampled bicubically
    (Dosovitskiy et al., arXiv:2010.11929, section 3.2).
    """
    if positions.shape[1] == tokens:
        return positions
    cls, grid = positions[:, :1], positions[:, 1:]
    old, new = (round(n**0.5) for n in (grid.shape[1], tokens - 1))
    if old**2 != grid.shape[1] or new**2 != tokens - 1:
        raise WeightsError(f"pos_embed: {grid.shape[1]} or {tokens - 1} positions are no square")
    square = grid.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(
        square, (new, new), mode="bicubic", align_corners=False, antialias=True
    )
    return torch.cat([cls, resized.permute(0, 2, 3, 1).flatten(1, 2).to(cls.dtype)], dim=1)


def _check(own: Weights, given: Weights, path: Path) -> None:
    """Check names and shapes; raises WeightsError with the first few that differ."""
    problems = [
        *(f"missing: {name}" for name in own.keys() - given.keys() if "num_batches" not in name),
        *(f"unexpected: {name}" for name in given.keys() - own.keys()),
        *(
            f"{name} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
            for name in own.keys() & given.keys()
            if own[name].shape != given[name].shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise WeightsError(f"{path}: {'; '.join(sorted(problems)[:5])}{more}")
