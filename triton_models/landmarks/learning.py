"""Train one TransLocator on the landmarks, from cached feature maps of a frozen stem.

The network is a small hybrid of `networks.translocator`: tokens from an EfficientNet-Lite's last
map, a second branch on the class map, CLS tokens exchanged after each layer, and heads that also
read the stem's mean. Its heads have only the cells that contain landmarks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from triton_models.landmarks.views import STEMS, THINNED, Views
from triton_models.networks.backbones import Stem
from triton_models.networks.preprocessing import OneHot
from triton_models.networks.translocator import (
    Branches,
    PatchEmbed,
    Scores,
    TransLocator,
    TransLocatorConfig,
)
from triton_models.training.loss import geolocation_loss

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

PATCH, HEADS = 32, 4
PROBE_STEPS, PROBE_RATE = 540, 3e-3


@dataclass(frozen=True)
class Recipe:
    """Parameters of training; epochs and rate were chosen on held-out folds (docs/landmarks.md)."""

    branches: Branches = "fused"
    scenes: bool = True
    width: int = 96
    depth: int = 2
    dropout: float = 0.3
    epochs: int = 4
    batch: int = 32
    rate: float = 4e-4
    weight_decay: float = 0.05
    smoothing: float = 0.1
    mixup: float = 0.3
    balance: float = 0.5
    """Photographs are drawn in proportion to (photographs of the place) ** -balance."""


def network_of(
    recipe: Recipe, stem: Stem, cells: Sequence[int], segmentation_classes: int
) -> TransLocator:
    """Return a hybrid for these numbers of coarse, middle and fine cells, with random weights.

    It does not include its stem (`views.frozen_stem`).
    """
    network = TransLocator(
        TransLocatorConfig(
            coarse=cells[0],
            middle=cells[1],
            fine=cells[2],
            scenes=3 if recipe.scenes else 0,
            segmentation_classes=segmentation_classes,
            branches=recipe.branches,
            width=recipe.width,
            depth=recipe.depth,
            heads=HEADS,
            mlp_ratio=2.0,
            common=recipe.width,
            patch_size=PATCH,
            crop_size=256,
            image_size=256,
            crops=1,
            stem=stem,
            heads_read_stem=True,
            normalisation="lite",
            dropout=recipe.dropout,
        )
    )
    network.stem = None
    if recipe.branches in ("separate", "fused"):
        # Every fourth pixel of the class map suffices, at a sixteenth of the cost.
        network.branches[1].patch_embed = PatchEmbed(
            segmentation_classes, recipe.width, PATCH // THINNED
        )
    return network


def learn(
    views: Views, stem: int, labels: Ints, rows: Ints, recipe: Recipe, seed: int
) -> TransLocator:
    """Train on the features of STEMS[`stem`] of the photographs `rows`, with `labels` [n, 4].

    Labels are coarse, middle and fine cell and scene; -1 is none. Each time, a random cached view
    of a photograph is used. The result is the same for the same seed.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    cells = [int(labels[:, head].max()) + 1 for head in range(3)]
    network = network_of(recipe, STEMS[stem], cells, views.classes)
    _begin_with(network, probe(views.seen[stem].means, labels, rows, recipe, rng))
    one_hot = OneHot(views.classes)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * math.ceil(len(rows) / recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=steps, pct_start=0.1
    )
    fine = labels[rows, 2]
    weight = np.bincount(fine)[fine] ** -recipe.balance
    network.train()
    for _ in range(steps):
        drawn = rng.choice(rows, recipe.batch, p=weight / weight.sum())
        view = rng.integers(views.count, size=recipe.batch)
        maps, semantics = views.maps(stem, view, drawn), one_hot(views.class_ids(view, drawn))
        truth = torch.from_numpy(labels[drawn])
        other = torch.randperm(recipe.batch)
        share = float(rng.beta(recipe.mixup, recipe.mixup)) if recipe.mixup else 1.0
        scores = network.from_features([mixed(maps, share, other)], mixed(semantics, share, other))
        loss = share * geolocation_loss(scores, truth, smoothing=recipe.smoothing)
        loss += (1 - share) * geolocation_loss(scores, truth[other], smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def probe(
    seen: Singles, labels: Ints, rows: Ints, recipe: Recipe, rng: np.random.Generator
) -> list[nn.Linear]:
    """Fit each head by logistic regression on a stem's means [v, n, channels].

    A network whose heads start from a linear probe does not distort the stem's features (Kumar et
    al., arXiv:2202.10054).
    """
    means = torch.from_numpy(np.asarray(seen[:, rows]))
    centre, spread = means[0].mean(dim=0), means[0].std(dim=0) + 1e-6
    truth = torch.from_numpy(labels[rows])
    heads = [nn.Linear(means.shape[2], int(labels[:, k].max()) + 1) for k in range(labels.shape[1])]
    weights = [p for head in heads for p in head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=PROBE_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PROBE_RATE, total_steps=PROBE_STEPS, pct_start=0.1
    )
    for _ in range(PROBE_STEPS):
        row, view = rng.integers(len(rows), size=128), rng.integers(len(means), size=128)
        x = functional.dropout((means[view, row] - centre) / spread, 0.5)
        scores = Scores(*(head(x) for head in heads))
        loss = geolocation_loss(scores, truth[row], smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        for head in heads:  # undo the standardisation of the means
            head.weight.div_(spread)
            head.bias.sub_(head.weight @ centre)
    return heads


@torch.no_grad()
def _begin_with(network: TransLocator, heads: Sequence[nn.Linear]) -> None:
    """Initialise each head with the probe's weights for the stem's mean, and zeros elsewhere."""
    own = (network.coarse, network.middle, network.fine, network.scene)
    for head, begin in zip(own, heads, strict=True):
        if head is not None:
            head.weight.zero_()
            head.weight[:, -begin.in_features :] = begin.weight
            head.bias.copy_(begin.bias)


def mixed(x: Tensor, share: float, other: Tensor) -> Tensor:
    """Mix every picture with a share of another (mixup; Zhang et al., arXiv:1710.09412)."""
    return share * x + (1 - share) * x[other]


@torch.inference_mode()
def predict(
    network: TransLocator, views: Views, stem: int, rows: Ints, view: int = 0
) -> list[Singles]:
    """Return log-probabilities [rows, classes] of coarse, middle, fine and, if there, scene."""
    one_hot = OneHot(views.classes)
    found: list[Scores] = []
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        every = np.full(len(part), view)
        semantics = one_hot(views.class_ids(every, part))
        found.append(network.from_features([views.maps(stem, every, part)], semantics))
    heads = [torch.cat(list(h)) for h in zip(*found, strict=True) if h[0] is not None]
    return [functional.log_softmax(head, dim=1).numpy() for head in heads]
