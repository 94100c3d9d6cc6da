"""How like anything that was learnt is a photograph? Designed with whole sites left out.

Three signs, over the photograph and its mirror image, weighed by a logistic regression
(`fit_weights`) of known photographs that were held out against photographs of sites left out:
likeness and typicality, in the mean of the stems' memories (`memory.py`), and certainty, the
log-probability of the likeliest fine cell, which falls where the networks and the memories name
different places.
"""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

NAMES = ("likeness", "typicality", "certainty")
SIGNS = len(NAMES)


class Familiarity(nn.Module):
    """Signs [B, SIGNS] → log-odds that a photograph is of a known place, [B]."""

    weights: Tensor

    def __init__(self) -> None:
        """Begin with weights of 0; the last is the intercept."""
        super().__init__()
        self.register_buffer("weights", torch.zeros(SIGNS + 1))

    def forward(self, signs: Tensor) -> Tensor:
        """Return their weighted sum."""
        return signs @ self.weights[:-1] + self.weights[-1]


def fit_weights(known: Singles, strange: Singles, site: Ints) -> Singles:
    """A weight for each sign and an intercept, from signs [k, SIGNS] and [s, SIGNS].

    Known photographs together weigh as much as all sites `site` [s] that were left out, each of
    which weighs the same: the odds are for a world in which every second photograph is a stranger.
    """
    signs = np.concatenate([known, strange]).astype(np.float64)
    truth = np.repeat([1, 0], [len(known), len(strange)])
    sites = np.bincount(site)
    weight = np.concatenate(
        [np.full(len(known), 1 / len(known)), 1 / sites[site] / np.count_nonzero(sites)]
    )
    centre, scale = signs.mean(axis=0), signs.std(axis=0) + 1e-6
    model = LogisticRegression(C=1.0, max_iter=1000).fit(
        (signs - centre) / scale, truth, sample_weight=weight * len(signs)
    )
    slopes = model.coef_[0] / scale
    return np.append(slopes, model.intercept_[0] - slopes @ centre).astype(np.float32)


def speaking_against(weights: Singles) -> list[str]:
    """Names of the signs [SIGNS + 1] that would count a familiar photograph as strange.

    A fit in which one does has learnt to tell these very sites apart, which says nothing of other
    strangers.
    """
    return [name for name, weight in zip(NAMES, weights[:-1], strict=True) if weight < 0]
