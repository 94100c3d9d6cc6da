"""Adapt a segmentation network to a release: IMAGE → CLASS_MAP, one size, one file.

Training accepts any tensor names and sizes, a release has fixed ones. The graph is not changed:
Identity nodes before and after it rename its input and output.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 9  # the version of OPSET; older runtimes refuse newer versions


def write_served(path: Path, out: Path, size: int) -> None:
    """Write the network in `path` for pictures of `size` px, with the names of a release."""
    model = onnx.load(path)  # including external data
    graph = model.graph
    (image,), (ids,) = graph.input, graph.output
    given, wanted = (image.name, ids.name), _ends(size)
    if given[0] != wanted[0].name:
        graph.node.insert(0, helper.make_node("Identity", [wanted[0].name], [given[0]]))
    if given[1] != wanted[1].name:
        graph.node.append(helper.make_node("Identity", [given[1]], [wanted[1].name]))
    for end, want in zip((image, ids), wanted, strict=True):
        end.CopyFrom(want)
    onnx.save(model, out)


def write_blank(out: Path, size: int) -> None:
    """Write a network that returns class 0 everywhere, for a locator that reads no class map."""
    image, ids = _ends(size)
    nodes = [
        helper.make_node("Shape", [image.name], ["shape"], start=0, end=3),
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            [ids.name],
            value=helper.make_tensor("zero", TensorProto.UINT8, [1], [0]),
        ),
    ]
    graph = helper.make_graph(nodes, "blank", [image], [ids])
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION), out)


def _ends(size: int) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    """Return the input UINT8 [batch, size, size, 3] and the output UINT8 [batch, size, size]."""
    shape: list[str | int | None] = ["batch", size, size]
    return (
        helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, [*shape, 3]),
        helper.make_tensor_value_info("CLASS_MAP", TensorProto.UINT8, shape),
    )
