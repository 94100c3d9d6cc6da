"""Triton Python backend: decode logits into an answer.

The version's directory also holds the release's `decoder.npz`, its `digest`, and `triton_models`
with a copy of the folder `answer`. Only NumPy is installed here.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from triton_models.answer.decoding import Decoded, Decoder

LOGITS = ("COARSE_LOGITS", "MIDDLE_LOGITS", "FINE_LOGITS", "SCENE_LOGITS")


class TritonPythonModel:
    """Decodes photographs one by one, vectorised over cells."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the decoder of this version."""
        version = Path(args["model_repository"]) / args["model_version"]
        self.decoder = Decoder.load(version / "decoder.npz")
        self.digest = (version / "digest").read_text().strip()

    def execute(
        self, requests: "list[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Answer each request; a request with invalid logits fails alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        logits = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in LOGITS)
        try:
            decoded = [self.decoder.decode(*scores) for scores in zip(*logits, strict=True)]
        except ValueError as error:
            fault = pb_utils.TritonError(f"geodecode: {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=fault)
        return pb_utils.InferenceResponse(output_tensors=self._tensors(decoded))

    def _tensors(self, decoded: list[Decoded]) -> "list[pb_utils.Tensor]":
        """Return the photographs of one request as tensors, named by the wire contract."""
        n = len(decoded)
        answers = {
            "POSITION": np.stack([d.position for d in decoded]),
            "CELLS": _texts([d.cells for d in decoded]),
            "CELL_PROBABILITIES": np.stack([d.cell_probabilities for d in decoded]),
            "CONFIDENCE": np.stack([d.confidence for d in decoded]),
            "CANDIDATE_CELLS": _texts([d.candidate_cells for d in decoded]),
            "CANDIDATE_PROBABILITIES": np.stack([d.candidate_probabilities for d in decoded]),
            "REGION_CELLS": _texts([d.region_cells for d in decoded]),
            "REGION_PROBABILITIES": np.stack([d.region_probabilities for d in decoded]),
            "SCENE": np.stack([d.scene for d in decoded]),
            "ABSTENTION": _texts([np.array([d.abstention]) for d in decoded]),
            "RELEASE": _texts([np.array([self.digest])] * n),
        }
        return [pb_utils.Tensor(name, values) for name, values in answers.items()]


def _texts(rows: list[np.ndarray]) -> np.ndarray:
    """Return texts as Triton's BYTES: NumPy objects that hold bytes."""
    return np.char.encode(np.stack(rows), "utf-8").astype(object)
