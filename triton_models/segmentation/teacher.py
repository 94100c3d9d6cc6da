"""The teacher: a DeepLab trained on Cityscapes, run on several views of each picture.

It was trained on pale, wide pictures of streets and calls most unknown things `building`, even a
deep blue sky. With half the colour, at a smaller size, or in a street camera's aspect, it
recognises much more of that sky (docs/segmentation.md). It returns classes without probabilities,
so its uncertainty is measured as disagreement between the views.
"""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from triton_models.segmentation.photographs import Unusable

VIEWS = ("pale", "paler, brighter, mirrored", "small", "wide")

# Class ids of the teacher: the 19 of Cityscapes (Cordts et al., 2016, arXiv:1604.01685), in the
# order of its train ids.
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip


class Segmenter(Protocol):
    """A function from a picture to the class of every pixel."""

    size: int

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """UINT8 [size, size, 3] → UINT8 [size, size] class ids."""


class Teacher:
    """A TFLite network that maps one uint8 picture to one class map.

    Raises OSError or Unusable where the file has no such network.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

        weights = path.read_bytes()
        self.sha256 = hashlib.sha256(weights).hexdigest()
        try:
            self._network = Interpreter(model_content=weights, num_threads=threads)
        except ValueError as error:
            raise Unusable(f"{path}: no TFLite network: {error}") from error
        self._network.allocate_tensors()
        (self._input,) = self._network.get_input_details()
        (self._output,) = self._network.get_output_details()
        self.size = int(self._input["shape"][1])

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """UINT8 [size, size, 3] → UINT8 [size, size] class ids."""
        self._network.set_tensor(self._input["index"], picture[None])
        self._network.invoke()
        ids: np.ndarray = self._network.get_tensor(self._output["index"])[0]
        return ids.astype(np.uint8)


def maps(teacher: Segmenter, picture: np.ndarray) -> np.ndarray:
    """Return the maps of all VIEWS of a square picture: UINT8 [S, S, 3] → UINT8 [views, S, S]."""
    image = Image.fromarray(picture)
    pale = ImageEnhance.Color(image).enhance(0.5)
    bright = ImageEnhance.Brightness(ImageEnhance.Color(image).enhance(0.4)).enhance(1.3)
    mirrored = class_map(teacher, ImageOps.mirror(bright))[:, ::-1]
    return np.stack(
        [class_map(teacher, pale), mirrored, _small(teacher, bright), _wide(teacher, bright)]
    )


def _small(teacher: Segmenter, image: Image.Image) -> np.ndarray:
    """Return the map of a picture at 0.6 of its size, padded with its reflection."""
    size = image.width
    margin = size // 5
    inner = size - 2 * margin
    pixels = np.asarray(image.resize((inner, inner), Image.Resampling.BICUBIC))
    around = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    ids = class_map(teacher, Image.fromarray(around))[margin:-margin, margin:-margin]
    return _scaled(ids, size)


def _wide(teacher: Segmenter, image: Image.Image) -> np.ndarray:
    """Return the map of a picture scaled to the 2:1 of a street camera, above its reflection."""
    size = image.width
    pixels = np.asarray(image.resize((size, size // 2), Image.Resampling.BICUBIC))
    ids = class_map(teacher, Image.fromarray(np.concatenate([pixels, pixels[::-1]])))
    return _scaled(ids[: size // 2], size)


def _scaled(ids: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(ids).resize((size, size), Image.Resampling.NEAREST))


def class_map(teacher: Segmenter, picture: Image.Image) -> np.ndarray:
    """Return the class ids of a square picture at its own size, UINT8 [S, S]."""
    scaled = picture.resize((teacher.size,) * 2, Image.Resampling.BICUBIC)
    return _scaled(teacher(np.asarray(scaled)), picture.width)
