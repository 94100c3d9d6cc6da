"""Run a release in this process, without Triton, one photograph at a time.

It uses the same networks and the same decoder. It is for evaluation and tools that run without a
server.
"""

import numpy as np
import onnxruntime

from triton_models.answer.decoding import Decoded
from triton_models.release.release import Release


class ReleaseRunner:
    """Maps UINT8 [H, W, 3] sRGB pixels of the release's size to the answer of its ensemble."""

    def __init__(self, release: Release, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.release = release
        self._segmentation, self._locator = (
            onnxruntime.InferenceSession(
                release.file(f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for name in ("segmentation", "translocator")
        )
        self._decoder = release.decoder

    def logits(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return coarse, middle, fine and scene logits, each [crops, classes]."""
        image = pixels[None]
        (class_map,) = self._segmentation.run(None, {"IMAGE": image})
        heads = self._locator.run(None, {"IMAGE": image, "CLASS_MAP": class_map})
        return [head[0] for head in heads]

    def __call__(self, pixels: np.ndarray) -> Decoded:
        """Return the answer for one picture."""
        return self._decoder.decode(*self.logits(pixels))
