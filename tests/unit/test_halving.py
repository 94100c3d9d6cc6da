import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from triton_models.release.halving import FEWEST, round_to_half, store_halves


def test_large_tensors_are_rounded_to_fp16_and_small_ones_kept():
    network = nn.Linear(64, 64)
    bias = network.bias.detach().clone()
    round_to_half(network)
    torch.testing.assert_close(network.weight.half().float(), network.weight, rtol=0, atol=0)
    torch.testing.assert_close(network.bias, bias, rtol=0, atol=0)


def test_values_beyond_fp16_are_refused():
    network = nn.Linear(64, 64)
    with torch.no_grad():
        network.weight[0, 0] = 1e6
    with pytest.raises(OverflowError, match="weight"):
        round_to_half(network)


def test_a_stored_network_is_half_as_large_and_answers_the_same(tmp_path):
    rng = np.random.default_rng(0)
    side = int(np.ceil(FEWEST**0.5))
    rounded = rng.normal(size=(side, side)).astype(np.float16).astype(np.float32)
    exact = rng.normal(size=(side, side)).astype(np.float32)  # unchanged
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "rounded"], ["y"]),
            helper.make_node("MatMul", ["y", "exact"], ["z"]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, side])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, side])],
        [numpy_helper.from_array(rounded, "rounded"), numpy_helper.from_array(exact, "exact")],
    )
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    x = {"x": rng.normal(size=(1, side)).astype(np.float32)}
    before, size = onnxruntime.InferenceSession(path).run(None, x)[0], path.stat().st_size
    store_halves(path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    np.testing.assert_array_equal(onnxruntime.InferenceSession(path).run(None, x)[0], before)
    assert path.stat().st_size == pytest.approx(0.75 * size, rel=0.05)
    kept = {each.name: each.data_type for each in onnx.load(path).graph.initializer}
    assert kept == {"rounded.half": TensorProto.FLOAT16, "exact": TensorProto.FLOAT}
