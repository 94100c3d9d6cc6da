"""Decode scores over geo-cells into a position, its confidence, candidates and credible regions.

Triton's Python backend runs a copy of this folder and has only NumPy ≥ 1.26.

The steps for one photograph: logits → probabilities of each head → f* over the fine cells → mixture
with the world prior → chosen cell and point → mass within each radius → confidence. The credible
regions come from the same mixture.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from triton_models.answer.confidence import Calibration
from triton_models.answer.radii import RADII_KM, Circles
from triton_models.answer.regions import MOST_CELLS, Coarsening, Region, top

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]

REGION_LEVELS = (0.50, 0.80, 0.95)
CANDIDATES = 10

Point = Literal["top", "best"]

_LEAST_PROBABILITY = 1e-30
_TRIED = 16


@dataclass(frozen=True, eq=False)
class Decoded:
    """The answer for one photograph, as in the wire contract (docs/architecture.md).

    There is no batch axis. Texts are NumPy strings, padded with ``""``. A fine cell without an
    ancestor in a coarser partition has ``""`` there, with probability NaN.
    """

    position: Floats
    """Longitude and latitude in degrees, WGS 84, [2]."""
    cells: Strings
    """Tokens of the chosen coarse, middle and fine cell, [3]."""
    cell_probabilities: Singles
    """The mass of f* in each of them, [3]. It never decreases from fine to coarse."""
    confidence: Singles
    """[5], for RADII_KM; NaN where the release is not calibrated or the radius not resolved."""
    candidate_cells: Strings
    """[10]"""
    candidate_probabilities: Singles
    """[10]"""
    region_cells: Strings
    """[3, 64]"""
    region_probabilities: Singles
    """[3, 64]"""
    scene: Singles
    """[number of scenes]"""
    abstention: str


class Decoder:
    """Decodes scores over the cells of one release."""

    def __init__(
        self,
        *,
        coarse_tokens: Strings,
        middle_tokens: Strings,
        fine_tokens: Strings,
        fine_to_coarse: Indices,
        fine_to_middle: Indices,
        longitude: Floats,
        latitude: Floats,
        spread_km: Floats,
        prior: Floats,
        calibration: Calibration | None = None,
    ) -> None:
        """Take arrays of n fine cells in the order of the network's classes.

        ``fine_to_coarse`` and ``fine_to_middle`` are class indices of the ancestors, -1 where there
        is none. Longitude and latitude (degrees, WGS 84) are the mean position of a cell's
        photographs, and ``spread_km`` is their root-mean-square distance from it. ``prior`` sums to
        one.
        """
        self.coarse_tokens, self.middle_tokens = coarse_tokens, middle_tokens
        self.fine_tokens = fine_tokens
        self.fine_to_coarse, self.fine_to_middle = fine_to_coarse, fine_to_middle
        self.longitude, self.latitude = longitude, latitude
        self.spread_km, self.prior = spread_km, prior
        self.calibration = calibration
        lon, lat = np.radians(longitude), np.radians(latitude)
        self._vectors = np.stack(
            [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1
        )
        self._ids = np.array([int(t.ljust(16, "0"), 16) for t in fine_tokens.tolist()], np.uint64)
        self._along_curve = np.argsort(self._ids)
        self._coarsening = Coarsening(self._ids[self._along_curve])
        self._circles = Circles(self._vectors, spread_km)

    def save(self, path: Path) -> None:
        """Write the decoder to one ``.npz`` file, which ``load`` reads."""
        calibration = json.dumps(self.calibration.to_dict() if self.calibration else None)
        np.savez(
            path,
            calibration=np.array(calibration),
            **{name: getattr(self, name) for name in _ARRAYS},
        )

    @classmethod
    def load(cls, path: Path) -> Decoder:
        """Return the decoder that ``save`` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            values = json.loads(str(stored["calibration"]))
            calibration = None if values is None else Calibration.from_dict(values)
            return cls(calibration=calibration, **{name: stored[name] for name in _ARRAYS})

    def calibrated(self, calibration: Calibration | None) -> Decoder:
        """Return a decoder of the same cells with another calibration."""
        other = copy(self)
        other.calibration = calibration
        return other

    def decode(
        self,
        coarse: Singles,
        middle: Singles,
        fine: Singles,
        scene: Singles,
        *,
        point: Point = "top",
    ) -> Decoded:
        """Return the answer for the logits of one photograph, each [crops, classes].

        Raises ValueError where a shape is not the release's, or a logit is not a number.
        """
        p = self.distribution(coarse, middle, fine)
        ranked = top(p, MOST_CELLS)
        chosen = int(ranked[0]) if point == "top" else self.best_cell(p, ranked[:_TRIED])
        confidence = self.confidence(self.masses(p, chosen), chosen)
        tokens, probabilities = self._cells_of(p, chosen)
        region_cells = np.full((len(REGION_LEVELS), MOST_CELLS), "", "U16")
        region_probabilities = np.zeros(region_cells.shape, np.float32)
        for row, (ids, mass) in enumerate(self.regions(p, ranked)):
            region_cells[row, : len(ids)] = _tokens(ids)
            region_probabilities[row, : len(ids)] = mass
        best = ranked[:CANDIDATES]
        candidates = np.full(CANDIDATES, "", self.fine_tokens.dtype)
        candidates[: len(best)] = self.fine_tokens[best]
        candidate_probabilities = np.zeros(CANDIDATES, np.float32)
        candidate_probabilities[: len(best)] = p[best]
        return Decoded(
            position=np.array([self.longitude[chosen], self.latitude[chosen]]),
            cells=tokens,
            cell_probabilities=probabilities,
            confidence=confidence,
            candidate_cells=candidates,
            candidate_probabilities=candidate_probabilities,
            region_cells=region_cells,
            region_probabilities=region_probabilities,
            # The mean of ones over ten crops exceeds one in single precision.
            scene=np.minimum(_softmax(scene, scene.shape[-1]), 1.0).astype(np.float32),
            abstention=self._abstention(confidence, fine),
        )

    def distribution(
        self,
        coarse: Singles,
        middle: Singles,
        fine: Singles,
    ) -> Floats:
        """Return f*, the probability of each fine cell, [n]; it sums to one.

        It is a fine cell's probability times its middle's and its coarse ancestor's, each averaged
        over the crops, then mixed with the world prior (docs/decoding.md). Where a cell has no
        ancestor in a head, the factor is one over that head's number of classes.
        """
        c = self.calibration or Calibration()
        heads = zip(
            (coarse, middle, fine),
            (len(self.coarse_tokens), len(self.middle_tokens), len(self.fine_tokens)),
            c.temperatures,
            strict=True,
        )
        p_coarse, p_middle, p_fine = (_softmax(x, n, t) for x, n, t in heads)
        # Index -1 selects the factor appended for cells without an ancestor.
        p: Floats = p_fine * np.append(p_middle, 1 / len(p_middle))[self.fine_to_middle]
        p *= np.append(p_coarse, 1 / len(p_coarse))[self.fine_to_coarse]
        p /= p.sum()
        if share := c.prior_share(evidence(fine)):
            p = (1 - share) * p + share * self.prior
        return p

    def masses(self, p: Floats, chosen: int) -> Floats:
        """Return the probability within each of RADII_KM of a fine cell's mean position, [5]."""
        return self._circles.masses(self._vectors[chosen], p)

    def resolved(self, chosen: int) -> npt.NDArray[np.bool_]:
        """Return which of RADII_KM the partition resolves around this cell's mean position, [5].

        These are the radii within which half of the cell's own photographs lie: 1 - exp(-r²/s²) ≥
        1/2. Even certainty about the cell does not place a photograph within a smaller radius.
        """
        enough: npt.NDArray[np.bool_] = (
            np.square(RADII_KM) >= np.log(2) * self.spread_km[chosen] ** 2
        )
        return enough

    def confidence(self, masses: Floats, chosen: int) -> Singles:
        """Return the calibrated probabilities for the masses, [5]; NaN as in ``Decoded``."""
        if self.calibration is None:
            return np.full(len(RADII_KM), np.nan, np.float32)
        return self.calibration.confidence(masses, self.resolved(chosen))

    def best_cell(self, p: Floats, ranked: Indices) -> int:
        """Return the cell, of the most probable ones, that maximises the expected hits.

        The expected number of RADII_KM within which the true place lies is the sum of the masses
        within them.
        """
        expected = [self.masses(p, cell).sum() for cell in ranked.tolist()]
        return int(ranked[np.argmax(expected)])

    def regions(self, p: Floats, ranked: Indices) -> list[Region]:
        """Return the credible regions at REGION_LEVELS: S2 ids and probabilities.

        A region is the smallest set of fine cells whose probability reaches the level, most
        probable first. Where that takes more than 64, its cells are of mixed level
        (``Coarsening``). ``ranked``: the 64 most probable cells.
        """
        single = p[ranked].astype(np.float32)
        reached = np.cumsum(single, dtype=np.float64)
        counts = [int(np.searchsorted(reached, level)) + 1 for level in REGION_LEVELS]
        regions = [(self._ids[ranked[:n]], single[:n]) for n in counts if n <= len(ranked)]
        broad = REGION_LEVELS[len(regions) :]
        return regions + (self._coarsening.regions(p[self._along_curve], broad) if broad else [])

    def _abstention(self, confidence: Singles, fine: Singles) -> str:
        if self.calibration is None:
            return ""
        return self.calibration.abstention(confidence, self.calibration.prior_share(evidence(fine)))

    def _cells_of(self, p: Floats, chosen: int) -> tuple[Strings, Singles]:
        tokens, masses = [], []
        for names, up in (
            (self.coarse_tokens, self.fine_to_coarse),
            (self.middle_tokens, self.fine_to_middle),
        ):
            ancestor = up[chosen]
            tokens.append(names[ancestor] if ancestor >= 0 else "")
            masses.append(p[up == ancestor].sum() if ancestor >= 0 else np.nan)
        tokens.append(self.fine_tokens[chosen])
        masses.append(p[chosen])
        return np.array(tokens), np.minimum(masses, 1.0).astype(np.float32)


_ARRAYS = (
    "coarse_tokens",
    "middle_tokens",
    "fine_tokens",
    "fine_to_coarse",
    "fine_to_middle",
    "longitude",
    "latitude",
    "spread_km",
    "prior",
)


def evidence(fine: Singles) -> float:
    """Return log Σ exp of the logits, averaged over the crops, for ``Calibration.prior_share``."""
    highest = fine.max(axis=1)
    totals = np.exp(fine - highest[:, None]).sum(axis=1, dtype=np.float64)
    return float(np.mean(highest + np.log(totals)))


def _tokens(ids: Ids) -> list[str]:
    """Return the S2 tokens of ids: hexadecimal without trailing zeros."""
    text = ids.astype(">u8").tobytes().hex()
    return [text[k : k + 16].rstrip("0") for k in range(0, len(text), 16)]


def _softmax(logits: Singles, classes: int, temperature: float = 1.0) -> Floats:
    """Return probabilities [classes] of logits [crops, classes], averaged over the crops."""
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ValueError(f"logits of shape {logits.shape}, expected [crops, {classes}]")
    weights = np.multiply(logits, np.float32(1 / temperature), dtype=np.float32)
    weights -= weights.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    totals = weights.sum(axis=1)
    if not np.isfinite(totals).all():
        raise ValueError("a logit is not a number")
    mean = (1 / (totals * len(totals))) @ weights
    # A lower bound, so that heads that contradict each other do not multiply to zero everywhere.
    probabilities: Floats = np.maximum(mean.astype(np.float64), _LEAST_PROBABILITY)
    return probabilities
