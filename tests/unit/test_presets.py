"""Each named configuration builds, scores and exports, and its stem behaves as configured."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from triton_models.networks.backbones import ResNet, packaged_weights
from triton_models.networks.presets import PRESETS, preset
from triton_models.networks.pretrained import load_stem
from triton_models.networks.translocator import ServedLocator, TransLocator, TransLocatorConfig
from triton_models.release.export import export_locator, relative_difference

# Millions of parameters without the heads of 3 + 5 + 7 cells and 3 scenes, as published: ResNets
# torchvision's; the dual-branch ViTs by the count in test_translocator.
PARAMETERS = {"resnet50": 23.508, "resnet101": 42.500, "efficientnet-lite2": 4.811}


def small(name: str, **changes: Any) -> TransLocatorConfig:
    return preset(name, coarse=3, middle=5, fine=7, segmentation_classes=4, **changes)


def inputs(c: TransLocatorConfig, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(4, (batch, c.crop_size, c.crop_size), generator=g)
    one_hot = torch.nn.functional.one_hot(ids, 4).permute(0, 3, 1, 2).float()
    return torch.randn(batch, 3, c.crop_size, c.crop_size, generator=g), one_hot


def hybrid(**changes: Any) -> TransLocator:
    torch.manual_seed(0)
    sizes = {"crop_size": 64, "image_size": 64, "width": 24, "depth": 2, "heads": 3, "common": 24}
    return TransLocator(small("hybrid", **(sizes | changes))).eval()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_scores_and_has_its_published_size(name: str) -> None:
    config = small(name)
    with torch.device("meta"):
        network = TransLocator(config)
        scores = network(*(x.to("meta") for x in inputs(config)))
    assert [tuple(x.shape) for x in scores] == [(2, 3), (2, 5), (2, 7), (2, 3)]
    heads = sum(
        p.numel() for n, p in network.named_parameters() if n.split(".")[0] in scores._fields
    )
    own = (sum(p.numel() for p in network.parameters()) - heads) / 1e6
    assert own == pytest.approx(PARAMETERS.get(name, own), abs=1e-3)


@pytest.mark.parametrize("branches", ["rgb", "stacked", "separate", "fused"])
@pytest.mark.parametrize("reductions", [(32,), (16, 32)])
def test_cached_features_score_as_the_picture_does(branches: str, reductions: tuple[int]) -> None:
    network = hybrid(branches=branches, reductions=reductions, heads_read_stem=True)
    image, semantics = inputs(network.config)
    with torch.inference_mode():
        features = network.features(image)
        assert [x.shape[-1] for x in features] == [64 // r for r in reductions]
        for ours, theirs in zip(
            network(image, semantics), network.from_features(features, semantics), strict=True
        ):
            assert torch.equal(ours, theirs)
        other = network.from_features(features, semantics.flip(0))
    assert torch.equal(other.fine, network(image, semantics).fine) is (branches == "rgb")


@pytest.mark.parametrize("stem", ["efficientnet-lite0", "resnet50"])
@pytest.mark.parametrize("reductions", [(4,), (8, 16), (16,), (32,)])
@pytest.mark.parametrize("depth", [0, 2])
def test_every_parameter_learns(stem: str, reductions: tuple[int], depth: int) -> None:
    """Distributed training waits for the gradient of every parameter."""
    branches = "fused" if depth else "rgb"
    network = hybrid(stem=stem, reductions=reductions, depth=depth, branches=branches).train()
    sum(scores.sum() for scores in network(*inputs(network.config))).backward()  # type: ignore[union-attr]
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_frozen_stem_keeps_its_weights_and_statistics() -> None:
    network = hybrid()
    assert network.stem is not None
    image, semantics = inputs(network.config)
    for what, gradients in (("nothing", True), ("statistics", True), ("all", False)):
        network.stem.freeze(what)  # type: ignore[arg-type]
        network.train()
        before = [x.clone() for x in network.stem.buffers()]
        network(image, semantics).fine.sum().backward()
        still = all(map(torch.equal, before, network.stem.buffers()))
        assert still is (what != "nothing")
        assert any(p.grad is not None for p in network.stem.parameters()) is gradients
        network.zero_grad()
    with pytest.raises(ValueError, match="freeze is one of"):
        network.stem.freeze("most")  # type: ignore[arg-type]


def test_the_packaged_weights_are_those_of_the_classifier_that_they_were_published_with() -> None:
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]

    theirs = EfficientNet.from_name("efficientnet-lite2", image_size=64).eval()
    theirs.load_state_dict(packaged_weights("efficientnet-lite2"))
    network = hybrid()
    assert network.stem is not None
    load_stem(network.stem, "package")
    image, _ = inputs(network.config)
    with torch.inference_mode():
        torch.testing.assert_close(network.features(image)[0], theirs.extract_features(image))
    with pytest.raises(ValueError, match="no package carries the weights of resnet50"):
        packaged_weights("resnet50")


def test_resnet_halves_and_widens_as_published() -> None:
    network = ResNet("resnet50", (4, 8, 16, 32)).eval()
    maps = network(torch.zeros(1, 3, 64, 64))
    assert [x.shape[1:] for x in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert network.channels == (256, 512, 1024, 2048)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("name", ["hybrid", "efficientnet-lite0"])
def test_a_network_with_a_stem_is_exported(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"crop_size": 64, "image_size": 72, "crops": 2}
    served = ServedLocator(TransLocator(small(name, **sizes))).eval()
    export_locator(served, tmp_path / "locator.onnx")  # compares
    image = torch.randint(256, (3, 72, 72, 3), dtype=torch.uint8)
    ids = torch.randint(4, (3, 72, 72), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "locator.onnx")
    theirs = session.run(None, {"IMAGE": image.numpy(), "CLASS_MAP": ids.numpy()})
    assert theirs[2].shape == (3, 2, 7)
    with torch.inference_mode():
        # Lite pixels are (x - 127) / 128, from the centre of the picture.
        pixels = (image[:, 4:68, 4:68].float() - 127) / 128
        one_hot = torch.nn.functional.one_hot(ids[:, 4:68, 4:68].long(), 4).float()
        ours = served.network(pixels.permute(0, 3, 1, 2), one_hot.permute(0, 3, 1, 2)).fine
    assert relative_difference(ours.numpy(), theirs[2][:, 0]) < 1e-4


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("vit-x", {}, "no preset vit-x: vit-b16"),
        ("hybrid", {"layers": 3}, "has no layers; it has coarse"),
        ("hybrid", {"crop_size": 80}, "not a multiple of 32"),
        ("hybrid", {"reductions": (2,)}, "reductions are some of"),
        ("hybrid", {"stem": "vgg"}, "stem is one of"),
        ("hybrid", {"normalisation": "none"}, "normalisation is one of"),
        ("resnet50", {"branches": "fused"}, "depth = 0 is for branches = rgb"),
        ("vit-ti16", {"depth": 0}, "need a stem"),
    ],
)
def test_invalid_configurations_are_refused(name: str, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TransLocator(small(name, **wrong))
