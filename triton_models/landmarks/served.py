"""The network as it is served: several learnt TransLocators and a memory of what they learnt from.

    picture, mirrored picture ─▶ stem ─┬─▶ members (TransLocators) ─▶ mean probabilities ─┐
                                       ├─▶ memory: likeness to the nearest photograph ────┼─▶ logits
                                       └─▶ familiarity: how like anything learnt? ────────┘

A cell in which no landmark lies gets a logit that is NOTHING below the others: what the release
says of the rest of the world is the decoder's mixture with the world prior, whose share it reads
from the level of the fine logits (`confidence.Calibration.prior_share`), which no softmax sees.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.landmarks.familiarity import Familiarity
from triton_models.landmarks.views import THINNED
from triton_models.networks.backbones import EfficientNetLite
from triton_models.networks.preprocessing import Normalise, OneHot
from triton_models.networks.translocator import TransLocator

NOTHING = 40.0
TEMPERATURE = 0.07
"""Of the likenesses, which are cosines."""
MEMORY = 1 / 3
"""The memory's share in the mean of probabilities."""


class Memory(nn.Module):
    """Photographs that were learnt, by the stem's mean; how like is another to each place?"""

    centre: Tensor
    examples: Tensor
    places: Tensor

    def __init__(self, means: Tensor, place: Tensor, places: int) -> None:
        """`means`: [n, channels], over each photograph and its mirror image; `place`: [n]."""
        super().__init__()
        self.register_buffer("centre", means.mean(dim=0))
        self.register_buffer("examples", functional.normalize(means - self.centre).half())
        mine = place[None] == torch.arange(places)[:, None]
        self.register_buffer("places", torch.where(mine, 0.0, -4.0))  # cosines are 2 apart at most

    def forward(self, means: Tensor) -> Tensor:
        """[B, channels] → probabilities of the places, [B, places]."""
        likeness = functional.normalize(means - self.centre) @ self.examples.float().T
        nearest = (likeness[:, None] + self.places).amax(dim=2)
        return functional.softmax(nearest / TEMPERATURE, dim=1)


class ServedLandmarks(nn.Module):
    """UINT8 [B, 256, 256, 3] and class ids [B, 256, 256] → logits [B, 1, classes] of four heads."""

    def __init__(
        self,
        stem: EfficientNetLite,
        members: Sequence[TransLocator],
        memory: Memory,
        familiarity: Familiarity,
        known: Tensor,
        cells: Sequence[int],
        segmentation_classes: int,
    ) -> None:
        """`known`: the world's class index of each place's cells, [places, 3], of `cells` many."""
        super().__init__()
        self.normalise = Normalise("lite")
        self.stem = stem
        self.one_hot = OneHot(segmentation_classes)
        self.members = cast(Sequence[TransLocator], nn.ModuleList(members))
        self.memory, self.familiarity = memory, familiarity
        for head in range(3):
            classes, of_place = torch.unique(known[:, head], return_inverse=True)
            world = torch.full((len(classes), cells[head]), 0.0)
            world[torch.arange(len(classes)), classes] = 1.0
            self.register_buffer(f"world{head}", world)
            self.register_buffer(f"cell_of_place{head}", functional.one_hot(of_place).float())

    def forward(self, image: Tensor, class_map: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the coarse, middle, fine and scene logits."""
        pixels = self.normalise(image)
        semantics = self.one_hot(class_map[:, ::THINNED, ::THINNED])
        return self.from_maps(
            [self.stem(pixels)[0], self.stem(pixels.flip(3))[0]], [semantics, semantics.flip(3)]
        )

    def from_maps(
        self, maps: Sequence[Tensor], semantics: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same from the stem's maps and one-hot class maps of both views."""
        heads, scene, signs = self.read(maps, semantics)
        coarse, middle, fine = (
            (log + NOTHING) @ self.get_buffer(f"world{head}") - NOTHING
            for head, log in enumerate(heads)
        )
        fine = fine + self.familiarity(signs)[:, None]
        return coarse[:, None], middle[:, None], fine[:, None], scene[:, None]

    def read(
        self, maps: Sequence[Tensor], semantics: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Log-probabilities of each head's known cells, of the scenes, and familiarity's signs."""
        scores = [
            member.from_features([x], s)
            for member in self.members
            for x, s in zip(maps, semantics, strict=True)
        ]
        means = torch.stack([x.mean(dim=(2, 3)) for x in maps]).mean(dim=0)
        energy = torch.stack([s.fine.logsumexp(dim=1) for s in scores]).mean(dim=0)
        remembered = self.memory(means)
        heads = []
        for head in range(3):
            learnt = _mean_probabilities([s[head] for s in scores])
            places = remembered @ self.get_buffer(f"cell_of_place{head}")
            heads.append(((1 - MEMORY) * learnt + MEMORY * places).clamp(min=1e-12).log())
        scene = _mean_probabilities([s.scene for s in scores]).log()
        return heads, scene, self.familiarity.signs(means, energy, heads[2])


def _mean_probabilities(logits: Sequence[Tensor | None]) -> Tensor:
    return torch.stack([x.softmax(dim=1) for x in logits if x is not None]).mean(dim=0)
