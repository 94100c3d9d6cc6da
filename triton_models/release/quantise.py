"""Quantise a release's networks to 8-bit integers.

This is ONNX Runtime's static quantisation, as pairs of QuantizeLinear and DequantizeLinear.
Convolutions and matrix products with weights compute in int8: weights by channel, activations in
the range measured on sample pictures. Normalisation, attention's softmax and the last product with
weights before each output stay in fp32. In the release `landmarks` that last product spreads scores
over the world's cells, so there the heads compute in int8 as well.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from triton_models.release.release import MODEL_CARD, Release, sha256_of, write_release

MULTIPLIES = ("Conv", "Gemm", "MatMul")

Feed = Mapping[str, NDArray[np.uint8]]


def quantise(release: Release, directory: Path, pictures: NDArray[np.uint8]) -> Release:
    """Write the release `NAME-int8`; the given release stays as it is.

    The ranges of the locator are measured on class maps of the quantised segmentation network, so
    the new release binds the pair like any other. The calibration is copied and must be checked
    (docs/releases.md).

    Args:
        release: the release in fp32.
        directory: where to write the new release.
        pictures: UINT8 [n, S, S, 3], representative of the archive and prepared as for serving.

    Raises:
        ReleaseError: the written release is not consistent.
    """
    manifest = release.manifest
    with tempfile.TemporaryDirectory() as folder:
        maps, scores = Path(folder, "segmentation.onnx"), Path(folder, "translocator.onnx")
        quantise_network(
            release.file("segmentation.onnx"), maps, [{"IMAGE": p[None]} for p in pictures]
        )
        segmentation = onnxruntime.InferenceSession(maps)
        quantise_network(
            release.file("translocator.onnx"),
            scores,
            [
                {"IMAGE": p[None], "CLASS_MAP": segmentation.run(None, {"IMAGE": p[None]})[0]}
                for p in pictures
            ],
        )
        return write_release(
            directory,
            name=f"{release.name}-int8",
            version=release.version,
            fit=manifest.fit,
            scenes=manifest.scenes,
            segmentation=(maps, manifest.segmentation.config),
            locator=(scores, manifest.locator.config),
            locator_reads=sha256_of(maps),
            cells=release,
            calibration=manifest.calibration,
            provenance={
                **manifest.provenance,
                "quantised_from": release.digest,
                "quantised_on": f"{len(pictures)} pictures",
                "quantised_with": f"onnxruntime {onnxruntime.__version__}, static int8",
            },
            model_card=_model_card(release, len(pictures)),
            attributions=release.attributions,
        )


def quantise_network(network: Path, out: Path, feeds: Sequence[Feed]) -> None:
    """Write an ONNX network whose inner products are int8, with ranges from the given inputs."""
    with tempfile.TemporaryDirectory() as folder:
        folded = Path(folder, "folded.onnx")
        quant_pre_process(network, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            out,
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Weights of 7 bits: without VNNI, x86-64 adds pairs of u8 × s8 products in saturating
            # 16 bits, and full-range weights overflow there. So every processor answers the same.
            # https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
            reduce_range=True,
            nodes_to_quantize=inner_products(onnx.load(folded).graph),
            op_types_to_quantize=list(MULTIPLIES),
            calibrate_method=CalibrationMethod.MinMax,
        )


def inner_products(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that multiply by weights, except the last before an output."""
    weights = {tensor.name for tensor in graph.initializer}
    multiplies = {
        node.name
        for node in graph.node
        if node.op_type in MULTIPLIES and any(name in weights for name in node.input)
    }
    producer = {name: node for node in graph.node for name in node.output}
    last, seen = set(), set()
    ahead = [output.name for output in graph.output]
    while ahead:
        node = producer.get(ahead.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.name in multiplies:
            last.add(node.name)
        else:
            ahead.extend(node.input)
    return sorted(multiplies - last)


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """Adapter that gives the sample inputs to ONNX Runtime."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next input, or None."""
        return next(self._feeds, None)


def _model_card(release: Release, pictures: int) -> str:
    card = release.file(MODEL_CARD).read_text()
    return f"""# Release `{release.name}-int8`

The release `{release.name}` ({release.digest[:12]}), its inner products in 8-bit integers, with
ranges from {pictures} pictures, made by `geotag releases quantise`. Weights, cells and calibration
are those of `{release.name}`, whose model card follows; its figures were measured in 32 bits.

{card}"""
