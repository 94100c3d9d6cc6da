"""A quantised release is valid, computes in int8 where allowed, and answers almost equally."""

import numpy as np
import onnx
import onnxruntime
import pytest

from triton_models.release.export import LOCATOR_OUTPUTS
from triton_models.release.quantise import inner_products, quantise
from triton_models.release.release import RELEASES, Release


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Random fields of several scales, UINT8 [6, 256, 256, 3]."""
    generator = np.random.default_rng(0)
    fields = [
        generator.integers(256, size=(n, n, 3), dtype=np.uint8) for n in (2, 4, 8, 16, 32, 64)
    ]
    return np.stack([f.repeat(256 // len(f), 0).repeat(256 // len(f), 1) for f in fields])


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Release:
    directory = tmp_path_factory.mktemp("quantised") / "untrained-int8"
    return quantise(Release.load(RELEASES / "untrained"), directory, pictures)


def logits(release: Release, pictures: np.ndarray) -> dict[str, np.ndarray]:
    segmentation = onnxruntime.InferenceSession(release.file("segmentation.onnx"))
    locator = onnxruntime.InferenceSession(release.file("translocator.onnx"))
    maps = segmentation.run(None, {"IMAGE": pictures})[0]
    answer = locator.run(None, {"IMAGE": pictures, "CLASS_MAP": maps})
    return dict(zip(LOCATOR_OUTPUTS, answer, strict=True))


def test_it_is_a_separate_release_with_its_own_segmentation(quantised: Release) -> None:
    ours = Release.load(RELEASES / "untrained")
    assert quantised.name == "untrained-int8"
    assert quantised.digest != ours.digest
    assert quantised.manifest.provenance["quantised_from"] == ours.digest
    assert quantised.manifest.locator_reads != ours.manifest.locator_reads
    assert quantised.file("MODEL_CARD.md").read_text().startswith("# Release `untrained-int8`")
    sizes = [r.file("translocator.onnx").stat().st_size for r in (quantised, ours)]
    assert sizes[0] < sizes[1]
    for name in ("cells.parquet", "partitions.parquet"):
        assert quantised.file(name).read_bytes() == ours.file(name).read_bytes()


def test_its_answer_is_far_nearer_to_its_own_picture_than_to_another(
    quantised: Release, pictures: np.ndarray
) -> None:
    """Random weights are the worst case, because training makes networks robust to errors."""
    ours = logits(Release.load(RELEASES / "untrained"), pictures)
    theirs = logits(quantised, pictures)
    for name in LOCATOR_OUTPUTS:
        error = np.abs(theirs[name] - ours[name]).mean()
        other = np.abs(theirs[name] - np.roll(ours[name], 1, axis=0)).mean()
        assert 0 < error < other / 3


def test_every_inner_product_but_the_last_is_int8(quantised: Release) -> None:
    graph = onnx.load(RELEASES / "untrained" / "translocator.onnx").graph
    kept = {head: [n for n in graph.node if head in n.output] for head in LOCATOR_OUTPUTS}
    names = inner_products(graph)
    assert len(names) > 20
    assert not {node.name for nodes in kept.values() for node in nodes} & set(names)
    kinds = [n.op_type for n in onnx.load(quantised.file("translocator.onnx")).graph.node]
    assert kinds.count("QuantizeLinear") > 10
    assert kinds.count("Softmax") == [n.op_type for n in graph.node].count("Softmax")
