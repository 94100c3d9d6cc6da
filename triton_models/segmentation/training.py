"""Train the student's decoder on the maps of its frozen encoder.

The encoder's maps of every view of every picture are computed once and kept in memory in half
precision, so that an epoch costs only the decoder.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn import functional

from triton_models.networks.preprocessing import Normalise
from triton_models.networks.segmentation import LiteSegmentation
from triton_models.segmentation.photographs import Photograph

Example = tuple[np.ndarray, np.ndarray]  # pixels UINT8 [S, S, 3], class ids UINT8 [S, S]
Report = Callable[[str, int, int], None]  # task, number done, total


@dataclass(frozen=True)
class Recipe:
    """Parameters of the training; the defaults made the network that the project ships."""

    views: int = 4  # of each picture: as it is, and crops with other colours
    epochs: int = 20
    batch: int = 16  # pictures
    rate: float = 3e-3  # highest learning rate, after a tenth of the steps; then a cosine to 0
    weight_decay: float = 0.02
    smallest_crop: float = 0.5  # of the picture's area
    rare: float = 0.25  # weight of a class: its share of the pixels to the power of -rare
    seed: int = 4


def held_out(photo: Photograph, parts: int = 5) -> bool:
    """Return whether a picture is held out for scoring: one in `parts` series, by a hash."""
    return int(hashlib.sha256(photo.series.encode()).hexdigest(), 16) % parts == 0


def views(picture: np.ndarray, target: np.ndarray, recipe: Recipe, key: int) -> Iterator[Example]:
    """Yield the picture [S, S, 3] and its class ids [S, S] unchanged, then augmented views."""
    yield picture, target
    random = np.random.default_rng([recipe.seed, key])
    for _ in range(recipe.views - 1):
        yield _varied(picture, target, recipe, random)


def _varied(
    picture: np.ndarray, target: np.ndarray, recipe: Recipe, random: np.random.Generator
) -> Example:
    size = picture.shape[0]
    area, aspect = random.uniform(recipe.smallest_crop, 1), np.exp(random.uniform(-0.25, 0.25))
    width = size * min(1, (area * aspect) ** 0.5)
    height = size * min(1, (area / aspect) ** 0.5)
    x, y = random.uniform(0, size - width), random.uniform(0, size - height)
    box = (x, y, x + width, y + height)
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC, box)
    ids = Image.fromarray(target).resize((size, size), Image.Resampling.NEAREST, box)
    for change in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = change(image).enhance(random.uniform(0.6, 1.4))
    pixels, classes = np.asarray(image), np.asarray(ids)
    if random.random() < 0.5:
        pixels, classes = pixels[:, ::-1], classes[:, ::-1]
    return pixels, classes


@dataclass(frozen=True)
class Seen:
    """The frozen encoder's maps of every view, and the target ids."""

    maps: list[Tensor]  # FP16 [views, channels, S / r, S / r] for each reduction r
    targets: Tensor  # UINT8 [views, S / 2, S / 2]


def encode(
    network: LiteSegmentation,
    pictures: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    recipe: Recipe,
    report: Report,
) -> Seen:
    """Run the encoder over every view of every picture, one picture at a time."""
    normalise = Normalise("lite")
    network.eval()
    maps: list[list[Tensor]] = []
    ids: list[np.ndarray] = []
    for key, pair in enumerate(zip(pictures, targets, strict=True)):
        pixels, classes = zip(*views(*pair, recipe, key), strict=True)
        with torch.inference_mode():
            found = network.encoder(normalise(torch.from_numpy(np.stack(pixels))))
        maps.append([x.half().contiguous() for x in found])
        ids.append(np.stack(classes)[:, 1::2, 1::2])
        report("encode", key + 1, len(pictures))
    stacked = [torch.cat(parts) for parts in zip(*maps, strict=True)]
    return Seen(stacked, torch.from_numpy(np.concatenate(ids)))


def class_weights(targets: Tensor, classes: int, rare: float) -> Tensor:
    """Return each class's weight in the loss: 1 on average over the pixels, 0 without pixels."""
    share = torch.bincount(targets.flatten().int(), minlength=classes).double()
    share /= share.sum()
    weights = torch.where(share > 0, share.clamp(min=1e-9) ** -rare, 0.0)
    return (weights / (weights * share).sum()).float()


def train(network: LiteSegmentation, seen: Seen, recipe: Recipe, report: Report) -> list[float]:
    """Train the decoder in place; return the mean loss of every epoch."""
    torch.manual_seed(recipe.seed)
    order = torch.Generator().manual_seed(recipe.seed)
    decoder = network.decoder.train()
    count = len(seen.targets)
    steps = recipe.epochs * len(_batches(count, recipe, torch.Generator()))
    optimiser = torch.optim.AdamW(
        decoder.parameters(), recipe.rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    weights = class_weights(seen.targets, network.config.classes, recipe.rare)
    losses = []
    for epoch in range(recipe.epochs):
        total = 0.0
        batches = _batches(count, recipe, order)
        for done, batch in enumerate(batches, start=1):
            logits = functional.interpolate(
                decoder([x[batch].float() for x in seen.maps]), scale_factor=2.0, mode="bilinear"
            )
            loss = functional.cross_entropy(logits, seen.targets[batch].long(), weights)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item()
            report("train", epoch * len(batches) + done, steps)
        losses.append(total / len(batches))
    network.eval()
    return losses


def _batches(count: int, recipe: Recipe, order: torch.Generator) -> list[Tensor]:
    """Return batches of shuffled pictures, one view of each; an incomplete batch is dropped."""
    pictures = count // recipe.views
    view = torch.randint(recipe.views, (pictures,), generator=order)
    chosen = torch.randperm(pictures, generator=order) * recipe.views
    chosen += view
    size = min(recipe.batch, pictures)
    return [chosen[start : start + size] for start in range(0, pictures - size + 1, size)]
