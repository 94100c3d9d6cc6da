"""The memory of one stem: features of the training photographs.

For another photograph it returns the likeness to each place, and two signs of whether it is like
any training photograph:

- likeness: the greatest cosine to a training photograph, by the stem's map (`views.pooled`);
- typicality: the log-likelihood ratio of the map's mean under the nearest place and under all
  photographs together, as Gaussians in the space of the principal components ("relative Mahalanobis
  distance", Ren et al. 2021, arXiv:2106.09022).
"""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from torch.nn import functional

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

COMPONENTS = 256


class Memory(nn.Module):
    """Maps means and pooled maps [B, channels] to likeness [B, places] and signs [B, 2]."""

    centre: Tensor
    places: Tensor

    def __init__(self, means: Singles, pooled: Singles, place: Ints, places: int) -> None:
        """Store n photographs [n, channels] of places [n], numbered below `places`."""
        super().__init__()
        self.examples = Bytes(torch.from_numpy(pooled))
        self.typicality = Typicality(means, place)
        self.register_buffer("centre", torch.from_numpy(pooled).mean(dim=0))
        mine = torch.from_numpy(place)[None] == torch.arange(places)[:, None]
        self.register_buffer("places", torch.where(mine, 0.0, -4.0))  # cosines are 2 apart at most

    def forward(self, means: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosine to the nearest photograph of each place, and the signs."""
        examples = self.examples()
        centred = functional.normalize(examples - self.centre)
        cosines = functional.normalize(pooled - self.centre) @ centred.T
        nearest = (cosines[:, None] + self.places).amax(dim=2)
        likeness = (functional.normalize(pooled) @ functional.normalize(examples).T).amax(dim=1)
        return nearest, torch.stack([likeness, self.typicality(means)], dim=1)


class Bytes(nn.Module):
    """Rows [n, channels] quantised to one byte a value.

    On the landmark photographs this changes no cosine by more than 0.002.
    """

    values: Tensor
    scale: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        scale = rows.abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("values", (rows / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self) -> Tensor:
        """Return the rows."""
        rows: Tensor = self.values.float() * self.scale
        return rows


class Typicality(nn.Module):
    """Maps means [B, channels] to a relative Mahalanobis distance [B]; positive is near."""

    directions: Tensor
    offset: Tensor
    centres: Tensor
    within: Tensor
    overall: Tensor

    def __init__(self, means: Singles, place: Ints) -> None:
        """Fit to the means [n, channels] of photographs of each place [n]."""
        super().__init__()
        centre, scale = means.mean(axis=0), means.std(axis=0) + 1e-6
        _, _, axes = np.linalg.svd((means - centre) / scale, full_matrices=False)
        directions = axes[:COMPONENTS].T / scale[:, None]
        projected = (means - centre) @ directions
        found, index = np.unique(place, return_inverse=True)
        centres = np.stack([projected[index == k].mean(axis=0) for k in range(len(found))])
        within = LedoitWolf(assume_centered=True).fit(projected - centres[index]).covariance_
        overall = LedoitWolf(assume_centered=True).fit(projected).covariance_
        values = {
            "directions": directions,
            "offset": centre @ directions,
            "within": np.linalg.cholesky(np.linalg.inv(within)),
            "overall": np.linalg.cholesky(np.linalg.inv(overall)),
            "centres": centres,
        }
        for name, value in values.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, means: Tensor) -> Tensor:
        """Return the squared distance to the centre of all, minus that to the nearest place."""
        x = means @ self.directions - self.offset
        towards = x @ self.within
        away = (towards[:, None] - self.centres @ self.within).square().sum(dim=2).amin(dim=1)
        nearness: Tensor = ((x @ self.overall).square().sum(dim=1) - away) / len(self.offset)
        return nearness
