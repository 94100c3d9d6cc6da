"""Export PyTorch modules to ONNX files with a dynamic batch, and verify the outputs.

A release ships ONNX files, so serving needs no torch. Exporting the same weights with the same
versions of torch and onnxscript gives the same bytes, so a release's digest can be reproduced.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from triton_models.networks.segmentation import ServedSegmentation
from triton_models.networks.translocator import ServedLocator

BATCHES = (1, 3, 8)  # batch sizes at which every export is compared with its module
TOLERANCE = 1e-3  # largest difference of a logit, relative to the largest score
PIXELS = 1e-3  # largest share of pixels whose class may differ, because of near-ties

SEGMENTATION_OUTPUTS = ("CLASS_MAP",)
LOCATOR_OUTPUTS = ("COARSE_LOGITS", "MIDDLE_LOGITS", "FINE_LOGITS", "SCENE_LOGITS")


class ExportMismatch(Exception):
    """The outputs of the exported graph differ from the module's."""


def export_segmentation(module: ServedSegmentation, path: Path) -> None:
    """Write `segmentation.onnx`: UINT8 [B, H, W, 3] → UINT8 [B, H, W]; raises ExportMismatch."""
    size = module.network.config.image_size
    inputs = {"IMAGE": _noise(size, size, 3, high=256)}
    _export(module, inputs, SEGMENTATION_OUTPUTS, path)


def export_locator(module: ServedLocator, path: Path) -> None:
    """Write `translocator.onnx`: UINT8 image and class map → four logits [B, crops, classes].

    Raises ExportMismatch where ONNX Runtime does not reproduce the module's logits.
    """
    config = module.network.config
    export_scores(module, config.image_size, config.segmentation_classes, path)


def export_scores(module: nn.Module, size: int, classes: int, path: Path) -> None:
    """Export any module with the locator's signature; raises ExportMismatch.

    `size`: height and width of the pictures in px. `classes`: number of segmentation classes.
    """
    inputs = {
        "IMAGE": _noise(size, size, 3, high=256),
        "CLASS_MAP": _noise(size, size, high=classes),
    }
    _export(module, inputs, LOCATOR_OUTPUTS, path)


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest absolute difference as a share of the largest absolute score of `ours`.

    Both are [..., classes]. A lowest value that several classes of a row share is a floor for
    classes that are never scored. It does not count as a score.
    """
    lowest = ours == ours.min(axis=-1, keepdims=True)
    scores = ours[~(lowest & (lowest.sum(axis=-1, keepdims=True) > 1))]
    largest = np.abs(scores if scores.size else ours).max()
    return float(np.abs(ours - theirs).max() / largest)


def _noise(*shape: int, high: int) -> Tensor:
    """Return uniform random bytes [8, *shape] below `high`, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(high, (max(BATCHES), *shape), dtype=torch.uint8, generator=generator)


def _export(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], path: Path
) -> None:
    module.eval()
    # A named Dim would silently export a fixed batch; Dim.DYNAMIC does not. The sample batch has
    # two pictures, because torch.export specialises on a batch of one.
    program = torch.onnx.export(
        module,
        tuple(x[:2] for x in inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: Dim.DYNAMIC} for _ in inputs),
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ExportMismatch("torch exported nothing")
    model = program.model_proto
    _anonymise(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    verify(module, inputs, path)


def _anonymise(model: onnx.ModelProto) -> None:
    """Remove what differs between exports of the same weights: stack traces, generated names."""
    model.graph.ClearField("value_info")  # inferred shapes, under generated names
    ends = (*model.graph.input, *model.graph.output)
    for holder in (model, model.graph, *model.graph.node, *ends):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    for value in ends:
        dimensions = value.type.tensor_type.shape.dim
        if not dimensions[0].dim_param:
            raise ExportMismatch(f"{value.name} was exported with a fixed batch")
        dimensions[0].dim_param = "batch"


def verify(module: nn.Module, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Compare an ONNX file with the module at every one of BATCHES; raises ExportMismatch.

    `inputs`: tensors by the graph's input names, with at least as many rows as the largest batch.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in BATCHES:
        feed = {name: x[:batch] for name, x in inputs.items()}
        with torch.inference_mode():
            answer = module(*feed.values())
        ours = answer if isinstance(answer, tuple) else (answer,)
        theirs = session.run(None, {name: x.numpy() for name, x in feed.items()})
        for name, a, b in zip((o.name for o in session.get_outputs()), ours, theirs, strict=True):
            _compare(f"{name} at batch {batch}", a.numpy(), b)


def _compare(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        raise ExportMismatch(
            f"{what}: {theirs.dtype} {theirs.shape}, not {ours.dtype} {ours.shape}"
        )
    if ours.dtype == np.uint8:
        share = float((ours != theirs).mean())
        if share > PIXELS:
            raise ExportMismatch(f"{what}: {share:.2%} of the pixels have another class")
    elif not (difference := relative_difference(ours, theirs)) <= TOLERANCE:  # NaN differs too
        raise ExportMismatch(f"{what}: differs by {difference:.1e} of the largest score")
