"""Weights with the names of timm and Hugging Face give the same results here as there.

The reference is a ViT written down from Dosovitskiy et al. (arXiv:2010.11929, section 3.1) in
plain NumPy, which reads the tensors by the names in the files; it shares no code with ours.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from triton_models.networks.backbones import ResNet, Stem, build
from triton_models.networks.pretrained import (
    WeightsError,
    interpolated,
    load_stem,
    load_vit,
    timm_names,
)
from triton_models.networks.translocator import TransLocator, TransLocatorConfig

WIDTH, DEPTH, HEADS, PATCH, SIDE, HIDDEN = 12, 2, 3, 4, 16, 48
TOKENS = (SIDE // PATCH) ** 2


def config(**changes: Any) -> TransLocatorConfig:
    values: dict[str, Any] = {
        "width": WIDTH, "depth": DEPTH, "heads": HEADS, "common": WIDTH, "patch_size": PATCH,
        "crop_size": SIDE, "image_size": SIDE, "crops": 1, "segmentation_classes": 5,
    }  # fmt: skip
    return TransLocatorConfig(3, 4, 5, **(values | changes))


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def timm_file(side: int = SIDE) -> dict[str, torch.Tensor]:
    """A file with the names of timm's VisionTransformer (vit_*_patch*) and a classifier."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + (side // PATCH) ** 2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (10, WIDTH),
        "head.bias": (10,),
    }
    for k in range(DEPTH):
        for name, (out, into) in {
            "attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH),
            "mlp.fc1": (HIDDEN, WIDTH), "mlp.fc2": (WIDTH, HIDDEN),
        }.items():  # fmt: skip
            shapes[f"blocks.{k}.{name}.weight"] = (out, into)
            shapes[f"blocks.{k}.{name}.bias"] = (out,)
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{k}.{norm}.weight"] = shapes[f"blocks.{k}.{norm}.bias"] = (WIDTH,)
    return {name: random(*shape, seed=k) for k, (name, shape) in enumerate(shapes.items())}


def hugging_face_file(prefix: str = "vit.") -> dict[str, torch.Tensor]:
    """A file of transformers' ViTForImageClassification, or without prefix ViTModel's."""
    linear = {
        "attention.attention.query": (WIDTH, WIDTH), "attention.attention.key": (WIDTH, WIDTH),
        "attention.attention.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (HIDDEN, WIDTH), "output.dense": (WIDTH, HIDDEN),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.position_embeddings": (1, 1 + TOKENS, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    for k in range(DEPTH):
        for name, (out, into) in linear.items():
            shapes[f"encoder.layer.{k}.{name}.weight"] = (out, into)
            shapes[f"encoder.layer.{k}.{name}.bias"] = (out,)
        for norm in ("layernorm_before", "layernorm_after"):
            for kind in ("weight", "bias"):
                shapes[f"encoder.layer.{k}.{norm}.{kind}"] = (WIDTH,)
    named = {prefix + name: shape for name, shape in shapes.items()}
    head = "classifier" if prefix else "pooler.dense"
    named |= {f"{head}.weight": (WIDTH, WIDTH), f"{head}.bias": (WIDTH,)}
    return {name: random(*shape, seed=k) for k, (name, shape) in enumerate(named.items())}


Layers = list[dict[str, tuple[np.ndarray, np.ndarray]]]


def timm_parts(w: dict[str, torch.Tensor]) -> tuple[dict[str, np.ndarray], Layers]:
    a = {name: x.double().numpy() for name, x in w.items()}
    layers: Layers = []
    for k in range(DEPTH):
        here = {n: (a[f"blocks.{k}.{n}.weight"], a[f"blocks.{k}.{n}.bias"]) for n in (
            "norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}  # fmt: skip
        weight, bias = here.pop("attn.qkv")
        for part, w_, b_ in zip("qkv", np.split(weight, 3), np.split(bias, 3), strict=True):
            here[part] = (w_, b_)
        layers.append(here)
    return {
        "cls": a["cls_token"], "positions": a["pos_embed"], "kernel": a["patch_embed.proj.weight"],
        "offset": a["patch_embed.proj.bias"], "scale": a["norm.weight"], "shift": a["norm.bias"],
    }, layers  # fmt: skip


def hugging_face_parts(
    w: dict[str, torch.Tensor], prefix: str
) -> tuple[dict[str, np.ndarray], Layers]:
    a = {name.removeprefix(prefix): x.double().numpy() for name, x in w.items()}
    names = {
        "norm1": "layernorm_before", "norm2": "layernorm_after", "q": "attention.attention.query",
        "k": "attention.attention.key", "v": "attention.attention.value",
        "attn.proj": "attention.output.dense", "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }  # fmt: skip
    layers = [
        {
            ours: (a[f"encoder.layer.{k}.{theirs}.weight"], a[f"encoder.layer.{k}.{theirs}.bias"])
            for ours, theirs in names.items()
        }
        for k in range(DEPTH)
    ]
    return {
        "cls": a["embeddings.cls_token"], "positions": a["embeddings.position_embeddings"],
        "kernel": a["embeddings.patch_embeddings.projection.weight"],
        "offset": a["embeddings.patch_embeddings.projection.bias"],
        "scale": a["layernorm.weight"], "shift": a["layernorm.bias"],
    }, layers  # fmt: skip


def reference(picture: np.ndarray, ends: dict[str, np.ndarray], layers: Layers) -> np.ndarray:
    """Return the normalised CLS token of one picture [3, SIDE, SIDE]."""

    def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return np.asarray(scaled * weight + bias)

    tokens = []
    for y in range(0, SIDE, PATCH):
        for x in range(0, SIDE, PATCH):
            patch = picture[:, y : y + PATCH, x : x + PATCH]
            tokens.append((ends["kernel"] * patch).sum(axis=(1, 2, 3)) + ends["offset"])
    stream = np.concatenate([ends["cls"][0], np.stack(tokens)]) + ends["positions"][0]
    for layer in layers:
        h = norm(stream, *layer["norm1"])
        q, k, v = (h @ layer[p][0].T + layer[p][1] for p in "qkv")
        heads = []
        for at in np.split(np.arange(WIDTH), HEADS):
            logits = q[:, at] @ k[:, at].T / math.sqrt(len(at))
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ v[:, at])
        mixed = np.concatenate(heads, axis=1)
        stream = stream + mixed @ layer["attn.proj"][0].T + layer["attn.proj"][1]
        h = norm(stream, *layer["norm2"]) @ layer["mlp.fc1"][0].T + layer["mlp.fc1"][1]
        h = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        stream = stream + h @ layer["mlp.fc2"][0].T + layer["mlp.fc2"][1]
    return norm(stream[0], ends["scale"], ends["shift"])


@pytest.mark.parametrize("form", ["timm", "vit.", ""])
def test_a_loaded_vit_agrees_with_the_reference(form: str, tmp_path: Path) -> None:
    weights = timm_file() if form == "timm" else hugging_face_file(form)
    save_file(weights, tmp_path / "vit.safetensors")
    torch.manual_seed(0)
    network = TransLocator(config(branches="rgb")).eval()
    load_vit(network, tmp_path / "vit.safetensors")
    picture = random(3, SIDE, SIDE, seed=99)
    parts = timm_parts(weights) if form == "timm" else hugging_face_parts(weights, form)
    expected = reference(picture.double().numpy(), *parts)
    with torch.inference_mode():
        streams = network.embed([picture[None]], picture.new_empty(0))
        for k in range(DEPTH):
            streams = network.layer(k, streams)
        ours = network.branches[0].norm(streams[0])[0, 0]
    np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-4, atol=2e-5)


def test_the_branch_on_the_map_takes_all_but_the_patch_embedding(tmp_path: Path) -> None:
    weights = timm_file()
    save_file(weights, tmp_path / "vit.safetensors")
    network = TransLocator(config())
    rgb, seg = network.branches
    random_kernel = seg.state_dict()["patch_embed.proj.weight"].clone()
    load_vit(network, tmp_path / "vit.safetensors")
    a, b = rgb.state_dict(), seg.state_dict()
    assert torch.equal(b["patch_embed.proj.weight"], random_kernel)
    shared = [name for name in a if not name.startswith("patch_embed")]
    assert len(shared) == 4 + 12 * DEPTH
    assert all(torch.equal(a[name], b[name]) for name in shared)
    assert torch.equal(a["patch_embed.proj.weight"], weights["patch_embed.proj.weight"])


def test_positions_of_another_size_are_interpolated(tmp_path: Path) -> None:
    save_file(timm_file(side=32), tmp_path / "large.safetensors")  # 8 × 8 patches
    network = TransLocator(config())
    load_vit(network, tmp_path / "large.safetensors")
    assert network.branches[0].pos_embed.shape == (1, 1 + TOKENS, WIDTH)
    # Keys' cubic (a = -0.5) preserves linear functions of the position; CLS is not in the grid.
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    grid = torch.stack([x, y, 2 * x - y + 3], dim=2).flatten(0, 1)
    cls = torch.full((1, 1, 3), 77.0)
    given = torch.cat([cls, grid[None]], dim=1)
    larger = interpolated(given, 1 + 64)
    assert torch.equal(larger[:, :1], cls)
    middle = larger[0, 1:].view(8, 8, 3)[3:5, 3:5]  # without the edges
    at = (torch.arange(8) + 0.5) / 2 - 0.5
    yy, xx = torch.meshgrid(at[3:5], at[3:5], indexing="ij")
    expected = torch.stack([xx, yy, 2 * xx - yy + 3], dim=2)
    torch.testing.assert_close(middle, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(interpolated(given, 17), given)
    with pytest.raises(WeightsError, match="no square"):
        interpolated(given, 12)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w.pop("blocks.1.mlp.fc2.bias"), r"missing: blocks\.1\.mlp\.fc2\.bias"),
        (lambda w: w.update({"blocks.2.norm1.bias": torch.ones(1)}), r"unexpected: blocks\.2"),
        (lambda w: w.update({"norm.bias": torch.ones(7)}), r"norm\.bias is \(7,\), not \(12,\)"),
        (lambda w: w.update({"strange": torch.ones(1)}), "unexpected: strange"),
        (dict.clear, "missing: blocks.* and 2. more"),
    ],
)
def test_mismatched_tensors_are_named_and_nothing_changes(
    spoil: Any, says: str, tmp_path: Path
) -> None:
    weights = timm_file()
    spoil(weights)
    save_file(weights, tmp_path / "vit.safetensors")
    network = TransLocator(config())
    before = {name: x.clone() for name, x in network.state_dict().items()}
    with pytest.raises(WeightsError, match=says):
        load_vit(network, tmp_path / "vit.safetensors")
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


def test_a_query_without_its_key_is_named() -> None:
    weights = hugging_face_file()
    del weights["vit.encoder.layer.1.attention.attention.key.bias"]
    with pytest.raises(WeightsError, match=r"missing: 1\.key\.bias beside the query"):
        timm_names(weights)


def test_invalid_weight_files_are_refused(tmp_path: Path) -> None:
    network = TransLocator(config())
    with pytest.raises(WeightsError, match="No such file"):
        load_vit(network, tmp_path / "none.safetensors")
    for name in ("x.safetensors", "x.pth"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(WeightsError, match="no file of weights"):
            load_vit(network, tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "y.pth")
    with pytest.raises(WeightsError, match="no dictionary of tensors"):
        load_vit(network, tmp_path / "y.pth")


def test_a_stem_loads_from_torchvisions_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    stem = ResNet("resnet50", (32,))
    given = {name: x + 1 for name, x in stem.state_dict().items()}
    save_file(given | {"fc.weight": torch.ones(2, 2)}, tmp_path / "resnet50.safetensors")
    load_stem(stem, tmp_path / "resnet50.safetensors")
    assert all(torch.equal(x, given[name]) for name, x in stem.state_dict().items())
    assert "layer3.5.conv2.weight" in given  # torchvision's names
    assert "layer1.0.downsample.1.running_mean" in given
    save_file({"conv1.weight": torch.ones(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match=r"conv1\.weight is \(1,\), not \(64, 3, 7, 7\)"):
        load_stem(stem, tmp_path / "wrong.safetensors")


@pytest.mark.parametrize(
    ("name", "behind"),
    [("efficientnet-lite0", r"_blocks\.1[1-5]\.|_conv_head\.|_bn1\."), ("resnet50", r"layer4\.")],
)
def test_a_cut_stem_leaves_out_exactly_the_layers_behind_the_cut(
    name: Stem, behind: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    whole, cut = (build(name, 64, reductions).eval() for reductions in ((16, 32), (16,)))
    file, given = tmp_path / "published.safetensors", whole.published.state_dict()
    save_file(given, file)
    load_stem(cut, file)
    own = cut.published.state_dict().keys()
    assert given.keys() - own == {k for k in given if re.match(behind, k)}
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(whole(picture)[0], cut(picture)[0])
    first = next(iter(own))
    save_file(given | {f"{first}.more": torch.ones(1)}, file)
    with pytest.raises(WeightsError, match=f"unexpected: {first}.more$"):
        load_stem(cut, file)
    save_file({k: x for k, x in given.items() if k != first}, file)
    with pytest.raises(WeightsError, match=f"missing: {first}$"):
        load_stem(cut, file)


def test_a_network_with_a_stem_takes_no_vit(tmp_path: Path) -> None:
    network = TransLocator(
        config(stem="efficientnet-lite0", crop_size=32, image_size=32, branches="rgb", depth=0)
    )
    with pytest.raises(WeightsError, match="efficientnet-lite0 is no ViT"):
        load_vit(network, tmp_path / "vit.safetensors")
