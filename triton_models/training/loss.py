"""The loss: 0.5 coarse + 0.3 middle + 0.2 fine + scene, over the labelled photographs.

Each head's cross-entropy is averaged over the photographs of a step that have a label for it. The
count is a parameter, so that micro-batches and distributed processes give exactly the gradient of
the whole batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from triton_models.networks.translocator import Scores

WEIGHTS = (0.5, 0.3, 0.2, 1.0)  # coarse, middle, fine, scene


def counts(labels: Tensor) -> Tensor:
    """Return the number of labels of each head, [4], in labels [B, 4]."""
    return (labels >= 0).sum(dim=0)


def head_losses(
    scores: Scores, labels: Tensor, labelled: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of each head, [4]; 0 for a head that is missing or unlabelled.

    `labels`: class indices [B, 4], -1 for none. `labelled`: the divisors, [4]; by default the
    number of labels.
    """
    labelled = counts(labels) if labelled is None else labelled
    losses = []
    for head, (logits, truth) in enumerate(zip(scores, labels.unbind(dim=1), strict=True)):
        if logits is None:
            losses.append(torch.zeros((), device=labels.device))
            continue
        total = functional.cross_entropy(
            logits.float(), truth, ignore_index=-1, label_smoothing=smoothing, reduction="sum"
        )
        losses.append(total / labelled[head].clamp(min=1))
    return torch.stack(losses)


def geolocation_loss(
    scores: Scores, labels: Tensor, weights: Sequence[float] = WEIGHTS, smoothing: float = 0.0
) -> Tensor:
    """Return the weighted sum of the heads' losses; arguments as in `head_losses`."""
    losses = head_losses(scores, labels, smoothing=smoothing)
    return (losses * losses.new_tensor(weights)).sum()
