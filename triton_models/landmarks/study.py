"""The data of every step: photographs, views, cells, labels and splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from triton_models.cells.geocells import Hierarchy
from triton_models.landmarks.heldout import Answers, Singles, answers, assemble
from triton_models.landmarks.learning import Recipe, learn, predict
from triton_models.landmarks.photographs import Photographs, read_photographs
from triton_models.landmarks.scenes import Part, read_labels
from triton_models.landmarks.served import ServedLandmarks
from triton_models.landmarks.views import STEMS, Views, frozen_stem, read_views
from triton_models.landmarks.world import world_with
from triton_models.networks.translocator import TransLocator
from triton_models.scenes.classes import SCENES

Ints = npt.NDArray[np.int64]

ABLATION = (
    ("RGB alone", Recipe(branches="rgb", scenes=False)),
    ("+ segmentation by concatenation", Recipe(branches="stacked", scenes=False)),
    ("+ fusion", Recipe(scenes=False)),
    ("+ scene", Recipe()),
)
"""Each adds one part to the one before, except fusion, which replaces concatenation."""
LITE2 = STEMS.index("efficientnet-lite2")
"""The stem of the ablation and of the baselines."""


@dataclass(frozen=True, eq=False)
class Study:
    """n photographs of p places with their views, cells and labels."""

    photographs: Photographs
    views: Views
    hierarchy: Hierarchy
    known: Ints
    """The world's class index of each place's coarse, middle and fine cell, [p, 3]."""

    @classmethod
    def open(cls, photos: Path, work: Path) -> "Study":
        """Read the photographs and their views; raises FileNotFoundError."""
        photographs = read_photographs(photos)
        count = np.bincount(photographs.place)
        hierarchy, known = world_with(photographs.longitude, photographs.latitude, count)
        return cls(photographs, read_views(work / "views"), hierarchy, known)

    @cached_property
    def cells(self) -> Ints:
        """`known`, renumbered among the cells that contain places."""
        return np.stack([np.unique(k, return_inverse=True)[1] for k in self.known.T], axis=1)

    @property
    def classes(self) -> tuple[int, ...]:
        """The numbers of coarse, middle and fine cells in the world."""
        return tuple(len(p) for p in self.hierarchy.partitions)

    @cached_property
    def labels(self) -> Ints:
        """Coarse, middle and fine cell, and scene (-1 where not labelled), [n, 4]."""
        return np.column_stack([self.cells[self.photographs.place], self.scenes("train")])

    def scenes(self, part: Part, doubtful: bool = True) -> Ints:
        """Return the labelled scene of each photograph, [n]; -1 where this part has none."""
        scene = {
            label.file.removeprefix("landmarks/"): SCENES.index(label.scene)
            for label in read_labels()
            if label.part == part and (doubtful or not label.doubtful)
        }
        return np.array([scene.get(file, -1) for file in self.photographs.files])

    def splits(self, group: Ints) -> list[tuple[Ints, Ints]]:
        """Return for each group the photographs of the other groups, and its own."""
        return [(np.flatnonzero(group != k), np.flatnonzero(group == k)) for k in np.unique(group)]

    def no_answers(self) -> Answers:
        """Return answers of NaN for all photographs."""
        return Answers.empty(len(self.photographs), (*(self.cells.max(axis=0) + 1), 3))

    def members(self, rows: Ints, seed: int) -> list[TransLocator]:
        """Return one network for each stem, trained on the photographs `rows`."""
        return [
            learn(self.views, stem, self.labels, rows, Recipe(), seed) for stem in range(len(STEMS))
        ]

    def ask(self, members: Sequence[TransLocator], rows: Ints, held_out: Ints) -> Answers:
        """Return the answers for `held_out` of the served network of these members, from `rows`."""
        local = [int(n) + 1 for n in self.cells.max(axis=0)]
        place = self.photographs.place
        network = assemble((), members, self.views, place, rows, self.cells, local)
        return answers(network, self.views, held_out)

    def network(
        self, members: Sequence[TransLocator], rows: Ints, weights: Singles
    ) -> ServedLandmarks:
        """Return the network to serve, from `rows`, with all cells of the world and familiarity."""
        place = self.photographs.place
        stems = [frozen_stem(name) for name in STEMS]
        network = assemble(stems, members, self.views, place, rows, self.known, self.classes)
        network.familiarity.weights.copy_(torch.from_numpy(weights))
        return network

    def held_out_places(self, recipe: Recipe, seed: int) -> Ints:
        """Return each photograph's place by a single network trained on the other folds."""
        said = np.empty(len(self.photographs), np.int64)
        for rows, held_out in self.splits(self.photographs.folds()):
            network = learn(self.views, LITE2, self.labels, rows, recipe, seed)
            f_star = np.zeros((len(held_out), len(self.cells)))
            for view in (0, 1):
                coarse, middle, fine, *_ = predict(network, self.views, LITE2, held_out, view)
                c, m, f = self.cells.T
                f_star += np.exp(coarse[:, c] + middle[:, m] + fine[:, f])
            said[held_out] = f_star.argmax(axis=1)
        return said
