"""Validation during training: losses and distance errors on held-out photographs."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import great_circle_km
from triton_models.cells.geocells import Hierarchy
from triton_models.networks.translocator import Scores
from triton_models.training.examples import Batch
from triton_models.training.learner import Learner
from triton_models.training.loss import counts, head_losses
from triton_models.training.photographs import HEADS, Photographs


@torch.inference_mode()
def validate(
    learner: Learner, batches: Iterable[Batch], photographs: Photographs, hierarchy: Hierarchy
) -> dict[str, float]:
    """Return the loss of each head, and the share of photographs placed within each radius.

    The position is the mean position of the fine cell with the largest f* on the centre crop. Bad
    pictures are left out of all figures.
    """
    learner.eval()
    device = next(learner.parameters()).device
    losses = torch.zeros(len(HEADS), device=device)
    labelled = torch.zeros(len(HEADS), device=device)
    distances = [np.empty(0)]
    for batch in batches:
        moved = batch.each(lambda x: x.to(device))
        scores = learner.centre(moved.image, moved.class_map)
        ones = torch.ones(len(HEADS), device=device)
        losses += head_losses(scores, moved.labels, ones)
        labelled += counts(moved.labels)
        cells = hierarchical(scores, hierarchy).argmax(dim=1).cpu().numpy()
        index, files = batch.index.numpy(), {file for file, _, _ in batch.bad}
        good = np.array([photographs.files[k] not in files for k in index], bool)
        distances.append(
            great_circle_km(
                photographs.longitude[index],
                photographs.latitude[index],
                hierarchy.fine.longitude[cells],
                hierarchy.fine.latitude[cells],
            )[good]
        )
    km = np.concatenate(distances)
    found = {f"loss_{head}": float(x) for head, x in zip(HEADS, losses / labelled, strict=True)}
    found |= {f"within_{r:g}_km": float(np.mean(km <= r)) for r in RADII_KM if len(km)}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def hierarchical(scores: Scores, hierarchy: Hierarchy) -> Tensor:
    """Return f*: each fine cell's probability times its middle's and coarse ancestor's, [B, fine].

    Where a cell has no ancestor in a head, the factor is one over that head's number of classes.
    """
    p: Tensor = scores.fine.float().softmax(dim=1)
    for logits, parent in (
        (scores.middle, hierarchy.fine_to_middle),
        (scores.coarse, hierarchy.fine_to_coarse),
    ):
        at = torch.from_numpy(parent.astype(np.int64)).to(p.device)
        q = logits.float().softmax(dim=1)
        p = p * torch.where(at >= 0, q[:, at.clamp(min=0)], 1 / q.shape[1])
    return p
