"""The network follows the publication: shapes, fusion by hand, paths of influence."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, views
from triton_models.networks.translocator import (
    Branches,
    Fusion,
    ServedLocator,
    TransLocator,
    TransLocatorConfig,
)


def config(**changes: object) -> TransLocatorConfig:
    small: dict[str, object] = {
        "coarse": 3, "middle": 5, "fine": 7, "segmentation_classes": 4, "width": 12, "depth": 2,
        "heads": 3, "common": 10, "patch_size": 4, "crop_size": 8, "image_size": 12, "crops": 1,
    }  # fmt: skip
    return TransLocatorConfig(**(small | changes))  # type: ignore[arg-type]


def network(**changes: object) -> TransLocator:
    torch.manual_seed(0)
    return TransLocator(config(**changes)).eval()


def inputs(c: TransLocatorConfig, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    shape = (batch, c.segmentation_classes, c.crop_size, c.crop_size)
    return torch.randn(batch, 3, c.crop_size, c.crop_size, generator=g), torch.rand(
        shape, generator=g
    )


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 3),
    per_head=st.integers(1, 8),
    depth=st.integers(1, 4),
    patch=st.sampled_from([2, 4, 8]),
    common=st.integers(1, 16),
    branches=st.sampled_from(["rgb", "stacked", "separate", "fused"]),
)
def test_any_depth_width_and_patch_size(
    heads: int, per_head: int, depth: int, patch: int, common: int, branches: Branches
) -> None:
    c = config(
        heads=heads, width=heads * per_head, depth=depth, patch_size=patch, common=common,
        branches=branches,
    )  # fmt: skip
    scores = TransLocator(c)(*inputs(c))
    assert [x.shape for x in scores] == [(2, 3), (2, 5), (2, 7), (2, 3)]


def test_one_fusion_step_against_numpy() -> None:
    torch.manual_seed(0)
    fusion = Fusion(branches=2, width=6, common=4)
    rgb, seg = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    with torch.no_grad():
        new_rgb, new_seg = fusion([rgb, seg])

    def linear(layer: torch.nn.Module, x: np.ndarray) -> np.ndarray:
        w, b = (p.detach().numpy() for p in layer.parameters())
        return np.asarray(x @ w.T + b)

    common = linear(fusion.f[0], rgb[:, 0].numpy()) + linear(fusion.f[1], seg[:, 0].numpy())
    np.testing.assert_allclose(new_rgb[:, 0], linear(fusion.g[0], common), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_seg[:, 0], linear(fusion.g[1], common), rtol=1e-5, atol=1e-6)
    assert torch.equal(new_rgb[:, 1:], rgb[:, 1:])
    assert torch.equal(new_seg[:, 1:], seg[:, 1:])
    assert not torch.allclose(new_rgb[:, 0], new_seg[:, 0])


def test_the_map_reaches_the_picture_through_the_cls_token_alone() -> None:
    net = network()
    image, semantics = inputs(net.config)
    semantics.requires_grad_()

    def reaches(tokens: torch.Tensor) -> bool:
        (gradient,) = torch.autograd.grad(
            tokens.sum(), semantics, retain_graph=True, allow_unused=True
        )
        return gradient is not None and bool(gradient.abs().max() > 0)

    rgb, _ = first = net.layer(0, net.embed([image], semantics))
    assert reaches(rgb[:, 0])
    assert not reaches(rgb[:, 1:])
    rgb, _ = net.layer(1, first)
    assert reaches(rgb[:, 1:])  # one layer later the patches have read it from the CLS token


def test_separate_branches_meet_in_the_heads_only() -> None:
    net = network(branches="separate")
    image, semantics = inputs(net.config)
    streams = net.embed([image], semantics)
    others = net.embed([image], semantics.flip(0))
    for k in range(net.config.depth):
        streams, others = net.layer(k, streams), net.layer(k, others)
    assert torch.equal(streams[0], others[0])
    assert not torch.equal(net(image, semantics).fine, net(image, semantics.flip(0)).fine)


@pytest.mark.parametrize(
    ("branches", "sees_map"), [("rgb", False), ("stacked", True), ("fused", True)]
)
def test_which_configurations_use_the_map(branches: Branches, sees_map: bool) -> None:
    net = network(branches=branches)
    image, semantics = inputs(net.config)
    same = torch.equal(net(image, semantics).coarse, net(image, semantics.flip(0)).coarse)
    assert same is not sees_map


def test_the_scene_head_is_a_switch() -> None:
    net = network(scenes=0)
    assert net(*inputs(net.config)).scene is None
    with pytest.raises(ValueError, match="scene head"):
        ServedLocator(net)


def test_number_of_parameters() -> None:
    def linear(a: int, b: int) -> int:
        return a * b + b

    def vit(c: TransLocatorConfig, channels: int) -> int:
        w, hidden, patches = c.width, int(c.width * c.mlp_ratio), (c.crop_size // c.patch_size) ** 2
        block = 4 * w + linear(w, 3 * w) + linear(w, w) + linear(w, hidden) + linear(hidden, w)
        embed = linear(channels * c.patch_size**2, w) + w + (1 + patches) * w
        return embed + c.depth * block + 2 * w

    c = TransLocatorConfig(3298, 7202, 12893)
    heads = sum(linear(2 * c.width, n) for n in (c.coarse, c.middle, c.fine, c.scenes))
    fusion = c.depth * 2 * (linear(c.width, c.common) + linear(c.common, c.width))
    with torch.device("meta"):
        parameters = sum(p.numel() for p in TransLocator(c).parameters())
    assert parameters == vit(c, 3) + vit(c, 150) + fusion + heads
    assert vit(c, 3) == 85_798_656  # timm's vit_base_patch16_224 without its classifier


def test_served_locator_is_normalise_one_hot_crop() -> None:
    net = network()
    image = torch.randint(256, (2, 12, 12, 3), dtype=torch.uint8)
    ids = torch.randint(4, (2, 12, 12), dtype=torch.uint8)
    pixels = (image[:, 2:10, 2:10].numpy() / 255 - IMAGENET_MEAN) / IMAGENET_STD
    one_hot = np.eye(4)[ids[:, 2:10, 2:10].numpy()]
    with torch.inference_mode():
        served = ServedLocator(net)(image, ids)
        direct = net(*(torch.from_numpy(x).permute(0, 3, 1, 2).float() for x in (pixels, one_hot)))
    assert [x.shape for x in served] == [(2, 1, 3), (2, 1, 5), (2, 1, 7), (2, 1, 3)]
    for ours, theirs in zip(served, direct, strict=True):
        assert theirs is not None
        torch.testing.assert_close(ours[:, 0], theirs)


def test_ten_crops_are_an_inner_axis() -> None:
    net = network(crops=10)
    image = torch.randint(256, (2, 12, 12, 3), dtype=torch.uint8)
    ids = torch.randint(4, (2, 12, 12), dtype=torch.uint8)
    with torch.inference_mode():
        fine = ServedLocator(net)(image, ids)[2]
        mirrored = ServedLocator(net)(image.flip(2), ids.flip(2))[2]
    assert fine.shape == (2, 10, 7)
    # Mirroring swaps left with right corners, and every crop with its mirror image.
    torch.testing.assert_close(mirrored, fine[:, [6, 5, 8, 7, 9, 1, 0, 3, 2, 4]])


def test_views_of_a_numbered_picture() -> None:
    picture = torch.arange(36).reshape(1, 6, 6)
    cut = views(picture, 2, 10)[0]
    assert cut[:5, 0, 0].tolist() == [0, 4, 24, 28, 14]
    assert torch.equal(cut[5:], cut[:5].flip(2))
    assert torch.equal(views(picture, 2, 1)[0, 0], cut[4])


def test_a_class_id_past_the_end_is_no_class() -> None:
    net = network()
    image = torch.zeros(1, 12, 12, 3, dtype=torch.uint8)
    low, high = (torch.full((1, 12, 12), n, dtype=torch.uint8) for n in (4, 255))
    served = ServedLocator(net)
    with torch.inference_mode():
        assert torch.equal(served(image, low)[2], served(image, high)[2])


@pytest.mark.parametrize(
    "wrong",
    [{"width": 13}, {"patch_size": 3}, {"image_size": 7}, {"crops": 5}, {"branches": "three"}],
)
def test_impossible_configurations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"crop|width|branches|cut"):
        config(**wrong)
