"""Many views of every photograph, and what the frozen stem sees in each: made once, kept in files.

The first view is the photograph as it is, the second its mirror image; the others are cut, turned,
recoloured, blurred or compressed at random. Segmentation runs on the view itself, as in serving.
"""

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

from triton_models.landmarks.photographs import SIZE, Pixels
from triton_models.networks.backbones import EfficientNetLite, Stem
from triton_models.networks.preprocessing import Normalise
from triton_models.networks.pretrained import load_stem
from triton_models.training.semantics import Segmenter

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

STEM: Stem = "efficientnet-lite2"
THINNED = 4
"""Class maps keep every fourth pixel of every fourth row."""
_BATCH = 8


@dataclass(frozen=True, eq=False)
class Views:
    """v views of n photographs."""

    maps: npt.NDArray[np.float16]
    """The stem's last map, [v, n, 1280, 8, 8]."""
    means: Singles
    """Its mean over the positions, [v, n, 1280]."""
    ids: Pixels
    """Classes of the thinned pixels, [v, n, 64, 64]."""
    classes: int
    """How many of them there are."""

    @property
    def count(self) -> int:
        """How many views there are."""
        return len(self.maps)

    def batch(self, view: Ints, row: Ints) -> tuple[Tensor, Tensor]:
        """Maps, fp32 [B, 1280, 8, 8], and class ids, [B, 64, 64], of one view of each row."""
        chosen = list(zip(view, row, strict=True))
        maps = np.stack([self.maps[at] for at in chosen]).astype(np.float32)
        return torch.from_numpy(maps), torch.from_numpy(np.stack([self.ids[at] for at in chosen]))


def stem() -> EfficientNetLite:
    """The frozen stem with ImageNet's weights, in evaluation mode."""
    network = EfficientNetLite(STEM, SIZE, (32,))
    load_stem(network, "package")
    network.freeze("all")
    return network.eval()


def make_views(pixels: Pixels, segmentation: Path, count: int, folder: Path) -> Iterator[str]:
    """Write the views of [n, 256, 256, 3] pixels to `folder`; yields what is done, for progress.

    `segmentation`: an ONNX network with its classes in the JSON file beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    segmenter, network, normalise = Segmenter(segmentation), stem(), Normalise("lite")
    shape = (count, len(pixels))
    maps = _file(folder, "maps", (*shape, 1280, SIZE // 32, SIZE // 32), np.float16)
    means = _file(folder, "means", (*shape, 1280), np.float32)
    ids = _file(folder, "ids", (*shape, SIZE // THINNED, SIZE // THINNED), np.uint8)
    for view in range(count):
        rng = np.random.default_rng(view)
        for at in range(0, len(pixels), _BATCH):
            part = slice(at, at + _BATCH)
            seen = np.stack([_seen(picture, view, rng) for picture in pixels[part]])
            with torch.inference_mode():
                (found,) = network(normalise(torch.from_numpy(seen)))
            maps[view, part], means[view, part] = found, found.mean(dim=(2, 3))
            ids[view, part] = segmenter(seen)[:, ::THINNED, ::THINNED]
        yield f"view {view + 1} of {count}"
    (folder / "classes.json").write_text(json.dumps(len(segmenter.classes)))


def read_views(folder: Path) -> Views:
    """Open what `make_views` wrote; raises FileNotFoundError where it is not whole."""
    maps, means, ids = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("maps", "means", "ids")
    )
    return Views(maps, means, ids, json.loads((folder / "classes.json").read_text()))


def _file(folder: Path, name: str, shape: Iterable[int], dtype: type) -> npt.NDArray[np.generic]:
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, tuple(shape))


def _seen(picture: Pixels, view: int, rng: np.random.Generator) -> Pixels:
    if view == 0:
        return picture
    return np.ascontiguousarray(picture[:, ::-1]) if view == 1 else varied(picture, rng)


def varied(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A random view of the same size.

    45 to 100 % of the area, sides stretched by up to e^0.35 (the photographs were squashed to
    squares), at times on its side, tilted by up to 8°, mirrored, recoloured, grey, blurred or
    compressed.
    """
    image = Image.fromarray(picture)
    if rng.random() < 0.04:
        turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
        image = image.transpose(turns[rng.integers(2)])
    if rng.random() < 0.3:
        image = image.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
    image = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=_cut(rng))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.8:
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.65, 1.35))
        image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.65, 1.35))
        image = ImageEnhance.Color(image).enhance(rng.uniform(0.4, 1.5))
    if rng.random() < 0.08:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.15:
        compressed = io.BytesIO()
        image.save(compressed, "JPEG", quality=int(rng.integers(30, 90)))
        image = Image.open(compressed).convert("RGB")
    return np.asarray(image)


def _cut(rng: np.random.Generator) -> tuple[float, float, float, float]:
    area = rng.uniform(0.45, 1) if rng.random() < 0.9 else 1.0
    stretch = np.exp(rng.uniform(-0.35, 0.35))
    width, height = (min(SIZE, SIZE * np.sqrt(area * s)) for s in (stretch, 1 / stretch))
    left, top = rng.uniform(0, SIZE - width), rng.uniform(0, SIZE - height)
    return left, top, left + width, top + height
