"""A release's calibration: from probability mass to a confidence that holds, or to no answer."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from triton_models.answer.radii import RADII_KM

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

    ``familiarity`` (slope, intercept), where it was fitted, makes the prior's share rise with how
    unlike the training photographs a photograph is; None: the share is ``prior_weight`` for all.
    """

    temperatures: tuple[float, float, float] = (1.0, 1.0, 1.0)
    prior_weight: float = 0.0
    slopes: tuple[float, ...] = (1.0,) * len(RADII_KM)
    intercepts: tuple[float, ...] = (0.0,) * len(RADII_KM)
    abstain_below: float | None = None
    familiarity: tuple[float, float] | None = None

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

    def prior_share(self, evidence: float) -> float:
        """The world prior's share in the mixture, for a photograph with so much ``evidence``.

        ``evidence`` is the logarithm of the sum of the fine head's exponentiated logits, which
        tells known from unknown inputs where the softmax cannot (Liu et al. 2020, "Energy-based
        out-of-distribution detection").
        """
        if self.familiarity is None:
            return self.prior_weight
        slope, intercept = self.familiarity
        odds = min(max(slope * evidence + intercept, -500.0), 500.0)
        return self.prior_weight + (1 - self.prior_weight) / (1 + math.exp(odds))

    def abstention(self, confidence: Singles, prior_share: float = 0.0) -> str:
        """Why there is no answer, or ``""``. A radius that is not resolved (NaN) is no evidence.

        Where the prior holds most of the mixture, the photograph is unlike what was learnt.
        """
        if self.abstain_below is None or confidence[_AT_200_KM] >= self.abstain_below:
            return ""
        return "unlike_training" if prior_share > 0.5 else "too_little_evidence"


def log_odds(masses: Floats) -> Floats:
    """Probabilities, kept a millionth from 0 and 1, on the scale of a logistic curve."""
    inside = np.clip(masses, 1e-6, 1 - 1e-6)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
