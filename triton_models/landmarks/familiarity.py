"""Familiarity: the log-odds that a photograph is of a place that was learnt.

A logistic regression (`fit_weights`), fitted on held-out photographs of known places against
photographs of left-out sites, weighs three signs of a photograph and its mirror image. Likeness and
typicality are means over the stems' memories (`memory.py`). Certainty is the log-probability of the
most probable fine cell, which is low where networks and memories answer different places.
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
    """Maps signs [B, SIGNS] to the log-odds that a photograph is of a known place, [B]."""

    weights: Tensor

    def __init__(self) -> None:
        """Start with weights of 0; the last is the intercept."""
        super().__init__()
        self.register_buffer("weights", torch.zeros(SIGNS + 1))

    def forward(self, signs: Tensor) -> Tensor:
        """Return the weighted sum of the signs, plus the intercept."""
        return signs @ self.weights[:-1] + self.weights[-1]


def fit_weights(known: Singles, strange: Singles, site: Ints) -> Singles:
    """Fit a weight for each sign and an intercept, from signs [k, SIGNS] and [s, SIGNS].

    All known photographs together have the same weight as all left-out photographs, and each site
    `site` [s] has the same weight. So the odds assume that half of the photographs are of unknown
    places.
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
    """Return the names of signs with a negative weight in `weights` [SIGNS + 1].

    A negative weight means that the fit distinguishes these particular sites and does not
    generalise to other unknown places.
    """
    return [name for name, weight in zip(NAMES, weights[:-1], strict=True) if weight < 0]
