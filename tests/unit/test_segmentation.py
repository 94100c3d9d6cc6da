"""The segmentation network gives every pixel a class at full resolution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_models.networks.backbones import packaged_weights
from triton_models.networks.segmentation import (
    LiteSegmentation,
    LiteSegmentationConfig,
    Segmentation,
    SegmentationConfig,
    ServedSegmentation,
)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 32), st.integers(1, 3), st.sampled_from([16, 32, 48]))
def test_any_number_of_classes_blocks_and_size(classes: int, blocks: int, size: int) -> None:
    net = Segmentation(SegmentationConfig(classes, width=4, blocks=blocks, image_size=size)).eval()
    assert net(torch.randn(1, 3, size, size)).shape == (1, classes, size, size)


def test_served_ids_are_the_most_probable_classes() -> None:
    torch.manual_seed(0)
    served = ServedSegmentation(Segmentation(SegmentationConfig(6, width=4, image_size=32))).eval()
    image = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        ids = served(image)
        logits = served.network(served.normalise(image))
    assert ids.shape == (2, 32, 32)
    assert ids.dtype == torch.uint8
    assert torch.equal(ids.long(), logits.argmax(1))
    assert len(ids.unique()) > 1


def test_it_can_learn_dark_from_light() -> None:
    torch.manual_seed(0)
    net = Segmentation(SegmentationConfig(2, width=4, blocks=1, image_size=32))
    pixels = torch.full((4, 3, 32, 32), -1.0)
    truth = torch.zeros(4, 32, 32, dtype=torch.long)
    for k in range(4):  # each picture has its light square at another place
        pixels[k, :, 4 * k : 4 * k + 16, 8:24] = 1.0
        truth[k, 4 * k : 4 * k + 16, 8:24] = 1
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(pixels), truth).backward()
        optimiser.step()
    right = (net(pixels).argmax(1) == truth).float().mean()
    assert right > 0.95  # the background alone is 75 %


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="256 classes"):
        SegmentationConfig(257)
    with pytest.raises(ValueError, match="multiple of 16"):
        SegmentationConfig(2, image_size=200)


def test_on_an_efficientnet_encoder_only_the_decoder_is_trained() -> None:
    torch.manual_seed(0)
    net = LiteSegmentation(LiteSegmentationConfig(5, width=8, image_size=64)).train()
    before = {name: value.clone() for name, value in net.encoder.state_dict().items()}
    net(torch.randn(2, 3, 64, 64)).mean().backward()
    assert all(p.grad is not None for p in net.decoder.parameters())
    assert not any(p.requires_grad for p in net.encoder.parameters())
    after = net.encoder.state_dict()  # with the statistics of batch normalisation
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_its_encoder_takes_the_packages_weights_and_its_normalisation() -> None:
    served = ServedSegmentation(LiteSegmentation(LiteSegmentationConfig(5, width=8, image_size=64)))
    weights = packaged_weights("efficientnet-lite0")
    found = served.network.encoder.network.load_state_dict(weights, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], ["_fc.weight", "_fc.bias"])
    dark, light = torch.zeros(1, 1, 1, 3), torch.full((1, 1, 1, 3), 255.0)
    assert served.normalise(dark).unique().item() == pytest.approx(-127 / 128)
    assert served.normalise(light).unique().item() == pytest.approx(1)


def test_an_encoder_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="EfficientNet-Lite, not 'resnet50'"):
        LiteSegmentationConfig(5, encoder="resnet50")
    with pytest.raises(ValueError, match="multiple of 32"):
        LiteSegmentationConfig(5, image_size=240)
    with pytest.raises(ValueError, match="256 classes"):
        LiteSegmentationConfig(1)
