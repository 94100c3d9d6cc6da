"""The served network: trained TransLocators, and memories of their training photographs.

    picture, mirrored picture ─▶ three stems, and for each
        ├─▶ a member (TransLocator) ────────────────────▶ mean probabilities ─┐
        ├─▶ memory: likeness to the nearest photograph ─▶ mean probabilities ─┼─▶ logits
        └─▶ memory: is it like anything learnt? ─▶ familiarity ───────────────┘

The logit of a cell without a landmark is NOTHING below the others. The decoder gives such cells
probability by mixing with the world prior. It computes the prior's share from the level of the fine
logits (`confidence.Calibration.prior_share`), to which the softmax is invariant.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.landmarks.familiarity import Familiarity
from triton_models.landmarks.memory import Memory
from triton_models.landmarks.views import THINNED, pooled
from triton_models.networks.backbones import EfficientNetLite
from triton_models.networks.preprocessing import Normalise, OneHot
from triton_models.networks.translocator import TransLocator

NOTHING = 40.0
TEMPERATURE = 0.05
"""Softmax temperature of the likenesses, which are cosines."""
MEMORY = 1 / 2
"""The memories' share in the mean of probabilities."""


class ServedLandmarks(nn.Module):
    """UINT8 [B, 256, 256, 3] and class ids [B, 256, 256] → logits [B, 1, classes] of four heads."""

    def __init__(
        self,
        stems: Sequence[EfficientNetLite],
        members: Sequence[TransLocator],
        memories: Sequence[Memory],
        known: Tensor,
        cells: Sequence[int],
        segmentation_classes: int,
    ) -> None:
        """Take a member and a memory for each stem; familiarity has no weights yet.

        `known`: the world's class index of each place's cells, [places, 3]. `cells`: the numbers of
        cells in the world.
        """
        super().__init__()
        self.normalise = Normalise("lite")
        self.one_hot = OneHot(segmentation_classes)
        self.stems = cast(Sequence[EfficientNetLite], nn.ModuleList(stems))
        self.members = cast(Sequence[TransLocator], nn.ModuleList(members))
        self.memories = cast(Sequence[Memory], nn.ModuleList(memories))
        self.familiarity = Familiarity()
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
        views = (pixels, pixels.flip(3))
        return self.from_maps(
            [[stem(view)[0] for view in views] for stem in self.stems],
            [semantics, semantics.flip(3)],
        )

    def from_maps(
        self, maps: Sequence[Sequence[Tensor]], semantics: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the logits from each stem's maps and the one-hot class maps of both views."""
        heads, scene, signs = self.read(maps, semantics)
        coarse, middle, fine = (
            (log + NOTHING) @ self.get_buffer(f"world{head}") - NOTHING
            for head, log in enumerate(heads)
        )
        fine = fine + self.familiarity(signs)[:, None]
        return coarse[:, None], middle[:, None], fine[:, None], scene[:, None]

    def read(
        self, maps: Sequence[Sequence[Tensor]], semantics: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return log-probabilities of each head's known cells and of scenes, and the signs."""
        scores = [
            member.from_features([x], s)
            for member, views in zip(self.members, maps, strict=True)
            for x, s in zip(views, semantics, strict=True)
        ]
        remembered, signs = self.remember(maps)
        heads = []
        for head in range(3):
            learnt = _probabilities(s[head] for s in scores)
            places = remembered @ self.get_buffer(f"cell_of_place{head}")
            heads.append(((1 - MEMORY) * learnt + MEMORY * places).clamp(min=1e-12).log())
        scene = _probabilities(s.scene for s in scores).log()
        certainty = heads[2].amax(dim=1, keepdim=True)
        return heads, scene, torch.cat([signs, certainty], dim=1)

    def remember(self, maps: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
        """Return place probabilities [B, places] by likeness, and the memories' signs [B, 2]."""
        places, signs = [], []
        for memory, views in zip(self.memories, maps, strict=True):
            means = _mean(x.mean(dim=(2, 3)) for x in views)
            nearest, said = memory(means, _mean(pooled(x) for x in views))
            places.append(functional.softmax(nearest / TEMPERATURE, dim=1))
            signs.append(said)
        return _mean(places), _mean(signs)


def _probabilities(logits: Iterable[Tensor | None]) -> Tensor:
    return _mean(x.softmax(dim=1) for x in logits if x is not None)


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)
