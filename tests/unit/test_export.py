"""Exported networks agree with their modules for any batch, and are reproducible."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from triton_models.networks.segmentation import (
    Segmentation,
    SegmentationConfig,
    ServedSegmentation,
)
from triton_models.networks.translocator import ServedLocator, TransLocator, TransLocatorConfig
from triton_models.release import untrained
from triton_models.release.export import (
    BATCHES,
    LOCATOR_OUTPUTS,
    ExportMismatch,
    export_locator,
    export_segmentation,
    relative_difference,
    verify,
)
from triton_models.release.release import RELEASES, Release

# torch.export uses something that it deprecates itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def locator() -> ServedLocator:
    torch.manual_seed(0)
    config = TransLocatorConfig(
        3, 5, 7, segmentation_classes=4, width=8, depth=1, heads=2, common=6, patch_size=8,
        crop_size=16, image_size=24, crops=10,
    )  # fmt: skip
    return ServedLocator(TransLocator(config)).eval()


def pictures(batch: int, size: int, *, high: int = 256, channels: int | None = 3) -> torch.Tensor:
    shape = (batch, size, size) + ((channels,) if channels else ())
    return torch.randint(high, shape, dtype=torch.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "translocator.onnx"
    export_locator(locator(), path)
    return path


def test_the_locator_keeps_its_contract_for_any_batch(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported)
    assert {i.name: (i.type, i.shape) for i in session.get_inputs()} == {
        "IMAGE": ("tensor(uint8)", ["batch", 24, 24, 3]),
        "CLASS_MAP": ("tensor(uint8)", ["batch", 24, 24]),
    }
    assert [o.name for o in session.get_outputs()] == list(LOCATOR_OUTPUTS)
    for batch in (1, 2, 5, 13):
        image, ids = pictures(batch, 24), pictures(batch, 24, high=4, channels=None)
        theirs = session.run(None, {"IMAGE": image.numpy(), "CLASS_MAP": ids.numpy()})
        with torch.inference_mode():
            ours = locator()(image, ids)
        assert [x.shape for x in theirs] == [(batch, 10, n) for n in (3, 5, 7, 3)]
        for a, b in zip(ours, theirs, strict=True):
            assert relative_difference(a.numpy(), b) < 1e-5


def test_the_file_contains_no_trace_of_the_machine(exported: Path) -> None:
    assert b".py" not in exported.read_bytes()
    assert not any(node.metadata_props for node in onnx.load(exported).graph.node)


def test_another_network_is_not_the_exported_one(exported: Path) -> None:
    other = locator()
    inputs = {
        "IMAGE": pictures(max(BATCHES), 24),
        "CLASS_MAP": pictures(max(BATCHES), 24, high=4, channels=None),
    }
    verify(other, inputs, exported)
    with torch.no_grad():
        other.network.fine.bias[0] += 0.1
    with pytest.raises(ExportMismatch, match="FINE_LOGITS at batch 1"):
        verify(other, inputs, exported)
    with torch.no_grad():
        other.network.coarse.bias[0] = torch.nan
    with pytest.raises(ExportMismatch, match="COARSE_LOGITS at batch 1"):
        verify(other, inputs, exported)


def test_the_floor_of_classes_that_are_never_scored_does_not_widen_the_tolerance() -> None:
    """As in `landmarks`: 40 below the others, constant within a row, different between rows."""
    scores = np.array([[2.0, -1.0, 0.5], [0.25, -2.0, 1.0]])
    floor = np.array([[-40.0, -40.0], [-37.0, -37.0]])
    ours = np.concatenate([scores, floor], axis=1)
    theirs = ours.copy()
    theirs[0, 1] += 0.01
    assert relative_difference(ours, theirs) == pytest.approx(0.01 / 2)
    assert relative_difference(ours, theirs) == relative_difference(scores, theirs[:, :3])
    theirs[1, 4] += 0.1  # a different floor is a difference
    assert relative_difference(ours, theirs) == pytest.approx(0.1 / 2)
    assert relative_difference(np.full((2, 3), -4.0), np.full((2, 3), -5.0)) == 0.25


def test_exporting_again_gives_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    export_locator(locator(), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_segmentation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ServedSegmentation(Segmentation(SegmentationConfig(5, width=4, image_size=32)))
    export_segmentation(module, tmp_path / "segmentation.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "segmentation.onnx")
    image = pictures(3, 32)
    (ids,) = session.run(["CLASS_MAP"], {"IMAGE": image.numpy()})
    assert ids.shape == (3, 32, 32)
    assert ids.dtype == np.uint8
    with torch.inference_mode():
        assert (module(image).numpy() == ids).mean() > 0.999


def test_the_committed_release_has_the_weights_of_its_seed() -> None:
    release = Release.load(RELEASES / untrained.NAME)
    segmentation, network = untrained.networks(
        TransLocatorConfig(**release.manifest.locator.config)
    )
    size = release.manifest.image_size
    image = pictures(max(BATCHES), size)
    ids = pictures(max(BATCHES), size, high=untrained.SEGMENTATION.classes, channels=None)
    verify(segmentation, {"IMAGE": image}, release.file("segmentation.onnx"))
    verify(network, {"IMAGE": image, "CLASS_MAP": ids}, release.file("translocator.onnx"))
