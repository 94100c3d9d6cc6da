"""The stream of training photographs, and its division into batches.

The stream is an endless sequence of permutations of all photographs. The photograph at position p
and its variation depend on the seed and p only. So a run can resume without saved state, and the
stream is the same for any number of processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from triton_models.training import augmentation
from triton_models.training.config import Augmentation
from triton_models.training.photographs import HEADS, NO_LABEL, Photographs
from triton_models.training.pictures import BadPicture, Pictures
from triton_models.training.semantics import ClassMaps


@dataclass
class Batch:
    """B photographs before augmentation. A bad picture is grey and has no labels."""

    image: Tensor
    """UINT8 [B, S, S, 3]"""
    class_map: Tensor
    """UINT8 [B, S, S], or [B, 0, 0] for a network without class maps."""
    labels: Tensor
    """INT64 [B, 4], -1 for none."""
    variation: Tensor
    """FP32 [B, augmentation.VARIATION]"""
    index: Tensor
    """INT64 [B]: indices of the photographs."""
    bad: list[tuple[str, str, str]]
    """File, code and message of the bad ones."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with a function applied to every tensor."""
        tensors = (self.image, self.class_map, self.labels, self.variation, self.index)
        image, class_map, labels, variation, index = map(change, tensors)
        return Batch(image, class_map, labels, variation, index, self.bad)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; DataLoader calls it."""
        return self.each(Tensor.pin_memory)


class Examples(Dataset[Batch]):
    """A dataset for torch's DataLoader: one photograph by its position, as a batch of one.

    Args:
        photographs: files and labels.
        pictures: reads files.
        maps: the class maps, or None for a network without class maps.
        size: S, the side of the pixels.
        seed: of the order and the variations.
        variation: the augmentation; None: the photographs in their order, unchanged.
    """

    def __init__(
        self,
        photographs: Photographs,
        pictures: Pictures,
        maps: ClassMaps | None,
        size: int,
        seed: int = 0,
        variation: Augmentation | None = None,
    ) -> None:
        self._photographs = photographs
        self._pictures = pictures
        self._maps = maps
        self._size = size
        self._seed = seed
        self._variation = variation
        self._epoch = -1
        self._order = np.arange(len(photographs))

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, position: int) -> Batch:
        """Return the photograph at a position of the stream."""
        if self._variation is None:
            index, variation = position, augmentation.unchanged()
        else:
            index = self._photograph(position)
            rng = np.random.default_rng([self._seed, 1, position])
            variation = augmentation.draw(self._variation, rng)
        labels = self._photographs.labels[index]
        bad = []
        try:
            image, class_map = self._read(self._photographs.files[index])
        except BadPicture as error:
            bad.append((self._photographs.files[index], error.code, error.message))
            image, class_map = self._grey()
            labels = np.full(len(HEADS), NO_LABEL)
        # Copies, as class maps are views into a file that is only read.
        return Batch(
            torch.from_numpy(np.array(image))[None],
            torch.from_numpy(np.array(class_map))[None],
            torch.from_numpy(labels)[None],
            torch.from_numpy(variation)[None],
            torch.tensor([index]),
            bad,
        )

    def _photograph(self, position: int) -> int:
        epoch, place = divmod(position, len(self._photographs))
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, 0, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._photographs))
        return int(self._order[place])

    def _read(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        sha256, image = self._pictures.read(file)
        if image.shape != (self._size, self._size, 3):
            raise ValueError(f"{file} was decoded to {image.shape}, not to {self._size} px")
        if self._maps is None:
            return image, np.empty((0, 0), np.uint8)
        try:
            return image, self._maps.get(sha256)
        except KeyError as error:
            raise BadPicture(
                "no_class_map",
                "the file has changed since its class map was made: delete data.cache",
            ) from error

    def _grey(self) -> tuple[np.ndarray, np.ndarray]:
        side = 0 if self._maps is None else self._size
        grey = np.full((self._size, self._size, 3), 127, np.uint8)
        return grey, np.zeros((side, side), np.uint8)


def collate(batches: list[Batch]) -> Batch:
    """Concatenate batches."""
    return Batch(
        torch.cat([batch.image for batch in batches]),
        torch.cat([batch.class_map for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.variation for batch in batches]),
        torch.cat([batch.index for batch in batches]),
        [item for batch in batches for item in batch.bad],
    )


class Positions(Sampler[list[int]]):
    """The micro-batches of one process from a step on, `accumulate` of them for each step.

    A step takes the next `micro_batch · accumulate · processes` positions of the stream.
    """

    def __init__(
        self, start: int, stop: int, micro_batch: int, accumulate: int, rank: int, processes: int
    ) -> None:
        self._steps = range(start, stop)
        self._micro_batch = micro_batch
        self._accumulate = accumulate
        self._rank = rank
        self._processes = processes

    def __len__(self) -> int:
        return len(self._steps) * self._accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            for micro in range(self._accumulate):
                part = (step * self._accumulate + micro) * self._processes + self._rank
                yield list(range(part * self._micro_batch, (part + 1) * self._micro_batch))
