"""What the recipe says of photographs that it has not seen: five folds, and whole sites left out.

Every answer comes from the very network that is served (`served.ServedLandmarks`), made from the
other photographs alone: members, memory and familiarity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from triton_models.landmarks.familiarity import Familiarity
from triton_models.landmarks.served import Memory, ServedLandmarks
from triton_models.landmarks.views import Views, stem
from triton_models.networks.backbones import EfficientNetLite
from triton_models.networks.translocator import TransLocator

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

SEEDS = (0, 1, 2)


@dataclass(frozen=True, eq=False)
class Answers:
    """Scores of photographs over the known cells, and the signs of familiarity."""

    coarse: Singles
    middle: Singles
    fine: Singles
    scene: Singles
    signs: Singles
    """[n, 4]"""

    @classmethod
    def empty(cls, photographs: int, classes: Sequence[int]) -> "Answers":
        """All NaN, to be filled."""
        return cls(*(np.full((photographs, n), np.nan, np.float32) for n in (*classes, 4)))

    def fill(self, rows: Ints, other: "Answers") -> None:
        """Put the other's answers in these rows."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(other, name)

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        np.savez_compressed(path, **{k: getattr(self, k) for k in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(**stored)


def assemble(
    members: Sequence[TransLocator],
    views: Views,
    place: Ints,
    rows: Ints,
    known: Ints,
    cells: Sequence[int],
    backbone: EfficientNetLite | None = None,
) -> ServedLandmarks:
    """The served network of these members, with the photographs `rows` as its memory.

    `known` [places, 3] and `cells` as in `ServedLandmarks`; familiarity has no weights yet.
    """
    means = np.asarray(views.means[:2, rows]).mean(axis=0)
    return ServedLandmarks(
        backbone or stem(),
        members,
        Memory(torch.from_numpy(means), torch.from_numpy(place[rows]), len(known)),
        Familiarity(means, place[rows]),
        torch.from_numpy(known),
        cells,
        views.classes,
    ).eval()


@torch.inference_mode()
def answers(network: ServedLandmarks, views: Views, rows: Ints) -> Answers:
    """Ask the network about photographs through their cached views."""
    found = []
    for part in np.array_split(rows, max(1, len(rows) // 32)):
        seen = [views.batch(np.full(len(part), view), part) for view in (0, 1)]
        maps = [m for m, _ in seen]
        semantics = [network.one_hot(ids) for _, ids in seen]
        heads, scene, signs = network.read(maps, semantics)
        found.append([*heads, scene, signs])
    return Answers(*(torch.cat(column).numpy() for column in zip(*found, strict=True)))
