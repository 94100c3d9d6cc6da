"""Cached views of every photograph, with the feature maps of frozen stems and class maps.

The first view is the photograph, the second its mirror image. The others are cropped, rotated,
recoloured, blurred or compressed at random. Segmentation runs on the view itself, as in serving.
"""

import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor, nn
from torch.export import Dim

from triton_models.landmarks.photographs import SIZE, Pixels
from triton_models.networks.backbones import EfficientNetLite, Stem
from triton_models.networks.preprocessing import Normalise
from triton_models.networks.pretrained import load_stem
from triton_models.release.halving import round_to_half
from triton_models.training.semantics import Segmenter

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

STEMS: tuple[Stem, ...] = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
THINNED = 4
"""Class maps keep every fourth pixel of every fourth row."""
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Seen:
    """The features of one stem for v views of n photographs."""

    maps: npt.NDArray[np.float16]
    """Its last map, [v, n, 1280, 8, 8]."""
    means: Singles
    """The map's mean over the positions, [v, n, 1280]."""
    pooled: Singles
    """The map by `pooled`, [v, n, 1280]."""


@dataclass(frozen=True, eq=False)
class Views:
    """v views of n photographs."""

    seen: tuple[Seen, ...]
    """By each of STEMS."""
    ids: Pixels
    """Classes of the thinned pixels, [v, n, 64, 64]."""
    classes: int
    """The number of classes."""

    @property
    def count(self) -> int:
        """The number of views."""
        return len(self.ids)

    def maps(self, stem: int, view: Ints, row: Ints) -> Tensor:
        """Return a stem's maps of one view of each row, fp32 [B, 1280, 8, 8]."""
        maps = self.seen[stem].maps
        chosen = [maps[at] for at in zip(view, row, strict=True)]
        return torch.from_numpy(np.stack(chosen).astype(np.float32))

    def class_ids(self, view: Ints, row: Ints) -> Tensor:
        """Return the class ids of one view of each row, [B, 64, 64]."""
        return torch.from_numpy(np.stack([self.ids[at] for at in zip(view, row, strict=True)]))


def frozen_stem(name: Stem) -> EfficientNetLite:
    """Return a stem with ImageNet weights in half precision, as in the release."""
    network = EfficientNetLite(name, SIZE, (32,))
    load_stem(network, "package")
    round_to_half(network)
    network.freeze("all")
    return network.eval()


def pooled(maps: Tensor) -> Tensor:
    """Return the generalised mean (p = 3) over positions, [B, channels, H, W] → [B, channels].

    It weighs strong responses more than the mean does, which suits pictures recognised by a part of
    them (Radenović et al. 2019, arXiv:1711.02512, equation 3).
    """
    return maps.clamp(min=1e-4).pow(3).mean(dim=(2, 3)).pow(1 / 3)


def make_views(pixels: Pixels, segmentation: Path, count: int, folder: Path) -> Iterator[str]:
    """Write the views of [n, 256, 256, 3] pixels to `folder`; yield a text for each view done.

    `segmentation`: an ONNX network with its classes in the JSON file beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(segmentation)
    eyes = [_Eye(name) for name in STEMS]
    shape = (count, len(pixels))
    seen = [
        Seen(
            _file(folder, f"maps_{name}", (*shape, 1280, SIZE // 32, SIZE // 32), np.float16),
            _file(folder, f"means_{name}", (*shape, 1280), np.float32),
            _file(folder, f"pooled_{name}", (*shape, 1280), np.float32),
        )
        for name in STEMS
    ]
    ids = _file(folder, "ids", (*shape, SIZE // THINNED, SIZE // THINNED), np.uint8)
    for view in range(count):
        rng = np.random.default_rng(view)
        for at in range(0, len(pixels), _BATCH):
            part = slice(at, at + _BATCH)
            pictures = np.stack([_view(picture, view, rng) for picture in pixels[part]])
            ids[view, part] = segmenter(pictures)[:, ::THINNED, ::THINNED]
            for eye, own in zip(eyes, seen, strict=True):
                own.maps[view, part], own.means[view, part], own.pooled[view, part] = eye(pictures)
        yield f"view {view + 1} of {count}"
    (folder / "classes.json").write_text(json.dumps(len(segmenter.classes)))


class _Eye:
    """A frozen stem in ONNX Runtime, which on a CPU is three times as fast as torch."""

    def __init__(self, name: Stem) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "stem.onnx")
            torch.onnx.export(
                _Looking(frozen_stem(name)).eval(),
                (torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8),),
                path,
                dynamo=True,
                dynamic_shapes=({0: Dim.DYNAMIC},),
                external_data=False,
                verbose=False,
            )
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            self._session = onnxruntime.InferenceSession(path, options)
        (self._input,) = (each.name for each in self._session.get_inputs())

    def __call__(self, pictures: Pixels) -> list[Singles]:
        """Return maps, their means, and pooled maps of UINT8 [B, 256, 256, 3]."""
        found: list[Singles] = self._session.run(None, {self._input: pictures})
        return found


class _Looking(nn.Module):
    def __init__(self, stem: EfficientNetLite) -> None:
        super().__init__()
        self.normalise, self.stem = Normalise("lite"), stem

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (maps,) = self.stem(self.normalise(pictures))
        return maps, maps.mean(dim=(2, 3)), pooled(maps)


def read_views(folder: Path) -> Views:
    """Open the files of `make_views`; raises FileNotFoundError where one is missing."""
    classes = json.loads((folder / "classes.json").read_text())
    seen = tuple(
        Seen(
            *(
                np.load(folder / f"{what}_{name}.npy", mmap_mode="r")
                for what in ("maps", "means", "pooled")
            )
        )
        for name in STEMS
    )
    return Views(seen, np.load(folder / "ids.npy", mmap_mode="r"), classes)


def _file(folder: Path, name: str, shape: Iterable[int], dtype: type) -> npt.NDArray[Any]:
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, tuple(shape))


def _view(picture: Pixels, view: int, rng: np.random.Generator) -> Pixels:
    if view == 0:
        return picture
    return np.ascontiguousarray(picture[:, ::-1]) if view == 1 else varied(picture, rng)


def varied(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a random view of the same size.

    It has 45 to 100 % of the area, with sides stretched by up to e^0.35 (the photographs were
    scaled to squares). At random it is turned by 90°, tilted by up to 8°, mirrored, recoloured,
    grey, blurred or compressed.
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
