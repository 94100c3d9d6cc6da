"""Answers about held-out photographs: five folds, and whole sites left out.

Every answer comes from the served network (`served.ServedLandmarks`), made from the other
photographs only: members, memories and familiarity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from triton_models.landmarks.familiarity import SIGNS
from triton_models.landmarks.memory import Memory
from triton_models.landmarks.served import ServedLandmarks
from triton_models.landmarks.views import STEMS, Views
from triton_models.networks.backbones import EfficientNetLite
from triton_models.networks.translocator import TransLocator
from triton_models.release.halving import round_to_half

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

SEEDS = (0, 1, 2)
"""The release uses the first; the others show the variance of its figures."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Scores of photographs over the known cells, and the signs of familiarity."""

    coarse: Singles
    middle: Singles
    fine: Singles
    scene: Singles
    signs: Singles
    """[n, SIGNS]"""

    @classmethod
    def empty(cls, photographs: int, classes: Sequence[int]) -> "Answers":
        """Return answers of NaN, to be filled."""
        return cls(*(np.full((photographs, n), np.nan, np.float32) for n in (*classes, SIGNS)))

    def fill(self, rows: Ints, other: "Answers") -> None:
        """Copy the other's answers into these rows."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(other, name)

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        np.savez_compressed(path, **{k: getattr(self, k) for k in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Return the answers that `save` wrote."""
        with np.load(path) as stored:
            return cls(**stored)


def assemble(
    stems: Sequence[EfficientNetLite],
    members: Sequence[TransLocator],
    views: Views,
    place: Ints,
    rows: Ints,
    known: Ints,
    cells: Sequence[int],
) -> ServedLandmarks:
    """Return the served network of these members, with the photographs `rows` as its memories.

    `stems`: empty where only cached views are used. `known` [places, 3] and `cells` are as in
    `ServedLandmarks`. Familiarity has no weights yet. Weights are rounded to half precision, as in
    the release.
    """
    memories = []
    for seen in views.seen:
        means, maps = (np.asarray(x[:2, rows]).mean(axis=0) for x in (seen.means, seen.pooled))
        memories.append(Memory(means, maps, place[rows], len(known)))
    network = ServedLandmarks(
        stems,
        members,
        memories,
        torch.from_numpy(known),
        cells,
        views.classes,
    )
    round_to_half(network)
    return network.eval()


@torch.inference_mode()
def answers(network: ServedLandmarks, views: Views, rows: Ints) -> Answers:
    """Return the network's answers for photographs, from their cached views."""
    found = []
    for part in np.array_split(rows, max(1, len(rows) // 32)):
        both = [np.full(len(part), view) for view in (0, 1)]
        maps = [[views.maps(stem, view, part) for view in both] for stem in range(len(STEMS))]
        semantics = [network.one_hot(views.class_ids(view, part)) for view in both]
        heads, scene, signs = network.read(maps, semantics)
        found.append([*heads, scene, signs])
    return Answers(*(torch.cat(column).numpy() for column in zip(*found, strict=True)))
