"""A release's calibration: turns probability mass into confidence, and decides on abstention."""

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
    """Parameters fitted on held-out photographs (``fitting.calibration``), from ``release.json``.

    ``temperatures`` divide the logits of the coarse, middle and fine head. ``prior_weight`` is the
    share of the world prior in the mixture. ``slopes`` and ``intercepts`` turn the mass within
    each of RADII_KM into a probability on the log-odds scale (Platt 1999). Below
    ``abstain_below`` of confidence at 200 km the release abstains; None: it never abstains.

    ``familiarity`` (slope, intercept) raises the prior's share for photographs unlike the training
    photographs; None: the share is ``prior_weight`` for all.
    """

    temperatures: tuple[float, float, float] = (1.0, 1.0, 1.0)
    prior_weight: float = 0.0
    slopes: tuple[float, ...] = (1.0,) * len(RADII_KM)
    intercepts: tuple[float, ...] = (0.0,) * len(RADII_KM)
    abstain_below: float | None = None
    familiarity: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Return the inverse of ``to_dict``; raises TypeError for an unknown name."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def confidence(self, masses: Floats, resolved: npt.NDArray[np.bool_]) -> Singles:
        """Return the calibrated probability within each of RADII_KM, [5]; NaN where not resolved.

        Each radius has its own curve. Because a larger circle contains the smaller ones, a
        confidence is never below that of a smaller radius.
        """
        odds = log_odds(masses) * self.slopes + self.intercepts
        stated = np.where(resolved, 1 / (1 + np.exp(-odds)), 0.0)
        rising = np.maximum.accumulate(stated)
        return np.where(resolved, rising, np.nan).astype(np.float32)

    def prior_share(self, evidence: float) -> float:
        """Return the world prior's share in the mixture for a photograph with this ``evidence``.

        ``evidence`` is the logarithm of the sum of the fine head's exponentiated logits. It tells
        known from unknown inputs better than the softmax (Liu et al. 2020, "Energy-based
        Out-of-distribution Detection").
        """
        if self.familiarity is None:
            return self.prior_weight
        slope, intercept = self.familiarity
        odds = min(max(slope * evidence + intercept, -500.0), 500.0)
        return self.prior_weight + (1 - self.prior_weight) / (1 + math.exp(odds))

    def abstention(self, confidence: Singles, prior_share: float = 0.0) -> str:
        """Return the reason to abstain, or ``""``.

        A confidence of NaN at 200 km (not resolved) abstains too. The reason is ``unlike_training``
        where the prior has more than half of the mixture.
        """
        if self.abstain_below is None or confidence[_AT_200_KM] >= self.abstain_below:
            return ""
        return "unlike_training" if prior_share > 0.5 else "too_little_evidence"


def log_odds(masses: Floats) -> Floats:
    """Return the log-odds of probabilities, which are clipped to a millionth from 0 and 1."""
    inside = np.clip(masses, 1e-6, 1 - 1e-6)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
