"""Triton Python backend: one ONNX network on ONNX Runtime, on the CPU.

The same file serves `segmentation` and `translocator`; it stands beside `model.onnx` in the
version's directory. Only numpy and onnxruntime are at hand here.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs every batch that Triton gathers as one."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network of this version."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        # An idle session must not spin: the other steps want the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            Path(args["model_repository"]) / args["model_version"] / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )
        self.step = args["model_name"]
        self.inputs = {x.name: x.shape[1:] for x in self.session.get_inputs()}
        self.outputs = [x.name for x in self.session.get_outputs()]

    def execute(
        self, requests: "list[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Answer each request; one that does not fit this network fails by itself."""
        feeds = [self._feed(request) for request in requests]
        faults = [self._fault(feed) for feed in feeds]
        good = [feed for feed, fault in zip(feeds, faults, strict=True) if fault is None]
        answers = iter(self._run(good) if good else [])
        return [
            pb_utils.InferenceResponse(output_tensors=next(answers))
            if fault is None
            else pb_utils.InferenceResponse(error=fault)
            for fault in faults
        ]

    def _feed(self, request: "pb_utils.InferenceRequest") -> dict[str, np.ndarray]:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self.inputs
        }

    def _fault(self, feed: dict[str, np.ndarray]) -> "pb_utils.TritonError | None":
        for name, shape in self.inputs.items():
            if list(feed[name].shape[1:]) != shape:
                message = (
                    f"{self.step}: {name} has the shape {list(feed[name].shape[1:])}, not {shape}"
                )
                return pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
        return None

    def _run(self, feeds: list[dict[str, np.ndarray]]) -> "list[list[pb_utils.Tensor]]":
        """Run all pictures as one batch; give each request its share of every output."""
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        outputs = self.session.run(self.outputs, batch)
        ends = np.cumsum(sizes)[:-1]
        shares = [np.split(output, ends) for output in outputs]
        return [
            [pb_utils.Tensor(name, part) for name, part in zip(self.outputs, parts, strict=True)]
            for parts in zip(*shares, strict=True)
        ]
