"""A release's calibration: from probability mass to a confidence that holds, or to no answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING or __package__:
    from triton_models.radii import RADII_KM
else:  # copied beside the model.py of Triton's Python backend
    from radii import RADII_KM

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

_AT_200_KM = RADII_KM.index(200.0)


@dataclass(frozen=True)
class Calibration:
    """What was fitted on held-out photographs (``calibration.fit``); kept in ``release.json``.

    ``temperatures`` divide the logits of the coarse, middle and fine head. ``prior_weight`` is the
    share of the world prior in the mixture. ``slopes`` and ``intercepts`` turn the mass within
    each of RADII_KM into a probability on the log-odds scale (Platt 1999). Below
    ``abstain_below`` of confidence at 200 km there is no answer; None: always answer.
    """

    temperatures: tuple[float, float, float] = (1.0, 1.0, 1.0)
    prior_weight: float = 0.0
    slopes: tuple[float, ...] = (1.0,) * len(RADII_KM)
    intercepts: tuple[float, ...] = (0.0,) * len(RADII_KM)
    abstain_below: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of ``to_dict``; TypeError for a name that it does not have."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def confidence(self, masses: Floats, resolved: npt.NDArray[np.bool_]) -> Singles:
        """The calibrated probability within each of RADII_KM, [5]; NaN where not resolved.

        Each radius has a curve of its own, but a larger circle holds the smaller: no confidence is
        below that of a smaller radius.
        """
        odds = log_odds(masses) * self.slopes + self.intercepts
        stated = np.where(resolved, 1 / (1 + np.exp(-odds)), 0.0)
        rising = np.maximum.accumulate(stated)
        return np.where(resolved, rising, np.nan).astype(np.float32)

    def abstention(self, confidence: Singles) -> str:
        """Why there is no answer, or ``""``. A radius that is not resolved (NaN) is no evidence."""
        if self.abstain_below is None or confidence[_AT_200_KM] >= self.abstain_below:
            return ""
        return "too_little_evidence"


def log_odds(masses: Floats) -> Floats:
    """Probabilities, kept a millionth from 0 and 1, on the scale of a logistic curve."""
    inside = np.clip(masses, 1e-6, 1 - 1e-6)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
