"""Triton Python backend: run one ONNX network with ONNX Runtime on the CPU.

Segmentation and translocator use the same file, beside `model.onnx` in the version's directory.
Only NumPy and onnxruntime are installed here.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs the requests that Triton gathers as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network of this version."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["threads"]["string_value"])
        # An idle session must not spin, because the other steps need the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            Path(args["model_repository"]) / args["model_version"] / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )
        self.inputs = [x.name for x in self.session.get_inputs()]
        self.outputs = [x.name for x in self.session.get_outputs()]

    def execute(
        self, requests: "list[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Answer each request; Triton has checked the shapes against the configuration."""
        feeds = [
            {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self.inputs
            }
            for request in requests
        ]
        return [pb_utils.InferenceResponse(output_tensors=share) for share in self._run(feeds)]

    def _run(self, feeds: list[dict[str, np.ndarray]]) -> "list[list[pb_utils.Tensor]]":
        """Run all pictures as one batch; return each request's part of every output."""
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        outputs = self.session.run(self.outputs, batch)
        ends = np.cumsum(sizes)[:-1]
        shares = [np.split(output, ends) for output in outputs]
        return [
            [pb_utils.Tensor(name, part) for name, part in zip(self.outputs, parts, strict=True)]
            for parts in zip(*shares, strict=True)
        ]
