"""Weights in half precision on the disk, in single precision at work: half the size, same answers.

A network is rounded first (`round_to_half`), and everything that is measured is measured of the
rounded one. Its ONNX file then holds those weights as fp16 (`store_halves`) without any loss, with
a Cast behind each, which ONNX Runtime computes once, when it loads the file.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

FEWEST = 1000
"""Smaller tensors stay as they are: biases and statistics, of which precision is worth more."""


@torch.no_grad()
def round_to_half(network: nn.Module) -> None:
    """Round the large floating-point parameters and buffers to what fp16 can hold, in place.

    Raises OverflowError where one lies outside of fp16.
    """
    for name, values in (*network.named_parameters(), *network.named_buffers()):
        if values.numel() < FEWEST or values.dtype != torch.float32:
            continue
        rounded = values.half().float()
        if not rounded.isfinite().all():
            raise OverflowError(f"{name} has values that fp16 does not hold")
        values.copy_(rounded)


def store_halves(path: Path) -> None:
    """Write the fp32 weights of an ONNX file that fp16 holds without loss as fp16."""
    model = onnx.load(path)
    casts = []
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < FEWEST:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString(deterministic=True))
