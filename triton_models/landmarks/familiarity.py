"""How like anything that was learnt is a photograph? Designed with whole sites left out.

Four signs, over the photograph and its mirror image, weighed by a logistic regression
(`fit_weights`) of known photographs that were held out against photographs of sites left out:

- likeness: the cosine to the nearest photograph that was learnt, by the stem's mean;
- typicality: how much more probable the means are under the nearest place than under all
  photographs together, Gaussians in the space of the principal components ("relative Mahalanobis
  distance", Ren et al. 2021, arXiv:2106.09022);
- energy: of the fine logits (Liu et al. 2020, arXiv:2010.03759);
- certainty: the log-probability of the likeliest fine cell, which falls where the networks and the
  memory name different places.
"""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

COMPONENTS = 128


class Familiarity(nn.Module):
    """Signs [B, 4] → log-odds that a photograph is of a known place, [B]."""

    examples: Tensor
    directions: Tensor
    offset: Tensor
    centres: Tensor
    within: Tensor
    overall: Tensor
    weights: Tensor

    def __init__(self, means: Singles, place: Ints) -> None:
        """Learn what is typical from the means [n, channels] of photographs of each place [n]."""
        super().__init__()
        centre, scale = means.mean(axis=0), means.std(axis=0) + 1e-6
        rows = (means - centre) / scale
        _, _, axes = np.linalg.svd(rows, full_matrices=False)
        directions = axes[:COMPONENTS].T / scale[:, None]
        projected = (means - centre) @ directions
        found, index = np.unique(place, return_inverse=True)
        centres = np.stack([projected[index == k].mean(axis=0) for k in range(len(found))])
        within = LedoitWolf(assume_centered=True).fit(projected - centres[index]).covariance_
        overall = LedoitWolf(assume_centered=True).fit(projected).covariance_
        values = {
            "examples": means / np.linalg.norm(means, axis=1, keepdims=True),
            "directions": directions,
            "offset": centre @ directions,
            "within": np.linalg.cholesky(np.linalg.inv(within)),
            "overall": np.linalg.cholesky(np.linalg.inv(overall)),
            "centres": centres,
            "weights": np.zeros(5),
        }
        for name, value in values.items():
            # Half precision for what is largest: it moves a cosine by less than 0.001.
            kept = np.float16 if name == "examples" else np.float32
            self.register_buffer(name, torch.from_numpy(np.asarray(value, kept)))

    def forward(self, signs: Tensor) -> Tensor:
        """Return their weighted sum."""
        return signs @ self.weights[:-1] + self.weights[-1]

    def signs(self, means: Tensor, energy: Tensor, fine: Tensor) -> Tensor:
        """Likeness, typicality, energy and certainty, [B, 4].

        From the stem's means [B, channels], the energy [B] and log-probabilities [B, cells].
        """
        likeness = (functional.normalize(means) @ self.examples.float().T).amax(dim=1)
        x = means @ self.directions - self.offset
        towards = x @ self.within
        away = (towards[:, None] - self.centres @ self.within).square().sum(dim=2).amin(dim=1)
        typicality = ((x @ self.overall).square().sum(dim=1) - away) / COMPONENTS
        return torch.stack([likeness, typicality, energy, fine.amax(dim=1)], dim=1)


def fit_weights(known: Singles, strange: Singles, site: Ints) -> Singles:
    """Four weights and an intercept, from signs [k, 4] and [s, 4].

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
    model = LogisticRegression(C=1000.0).fit(
        (signs - centre) / scale, truth, sample_weight=weight * len(signs)
    )
    slopes = model.coef_[0] / scale
    return np.append(slopes, model.intercept_[0] - slopes @ centre).astype(np.float32)
