"""Assess a trained network's answers and their calibration on held-out photographs.

The figures are cross-fitted in five folds: each answer has a calibration fitted on the other folds,
because a fit looks too good on its own data. The release's calibration is fitted on all
photographs. Only the number of answers above its threshold is counted with that one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import REGION_LEVELS, Decoded, Decoder, Singles
from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import Floats, great_circle_km
from triton_models.cells.geocells import Hierarchy
from triton_models.evaluation.scores import Score, hits, score
from triton_models.fitting.calibration import Scored, fit
from triton_models.fitting.reliability import (
    ConfidenceReport,
    RegionReport,
    assess_confidence,
    assess_regions,
)
from triton_models.training.photographs import NO_LABEL

FOLDS = 5
REGION = 0.80
AT_200_KM = RADII_KM.index(200.0)


@dataclass(frozen=True, eq=False)
class ScoredAnswer(Scored):
    """One held-out photograph with the network's scene logits."""

    scene: Singles
    """Logits [crops, scenes]."""
    label: int
    """The class of its labelled scene, or NO_LABEL."""


@dataclass(frozen=True)
class Figures:
    """The figures of a model card on held-out photographs."""

    all: Score
    """Over all photographs, including those on which the release abstains."""
    answered: Score | None
    """Over those that the release answers, by its own calibration; None if it answers none."""
    raw: ConfidenceReport | None
    """Of the uncalibrated confidence at 200 km; None where no cell resolves that radius."""
    calibrated: ConfidenceReport | None
    regions: RegionReport
    scene_hits: int
    scene_labels: int
    commonest_scene: int
    """Number of labels of the commonest scene."""


def assess(hierarchy: Hierarchy, answers: Sequence[ScoredAnswer], fitted: Calibration) -> Figures:
    """Assess answers; `fitted`, the release's calibration, decides which ones abstain.

    Raises CalibrationError where a fold has no photograph in a fine cell.
    """
    raw = hierarchy.decoder(Calibration())
    said = crossfitted(raw, hierarchy, answers)
    own = [decode(raw.calibrated(fitted), answer) for answer in answers]
    kept = np.array([not d.abstention for d in own])
    shown = [(a.label, d) for a, d in zip(answers, said, strict=True) if a.label != NO_LABEL]
    return Figures(
        all=score(_error_km(answers, said)),
        answered=score(_error_km(answers, own)[kept]) if kept.any() else None,
        raw=_reliability(answers, [decode(raw, answer) for answer in answers]),
        calibrated=_reliability(answers, said),
        regions=assess_regions(
            REGION,
            [d.region_cells[REGION_LEVELS.index(REGION)].tolist() for d in said],
            [d.region_probabilities[REGION_LEVELS.index(REGION)].tolist() for d in said],
            [a.longitude for a in answers],
            [a.latitude for a in answers],
        ),
        scene_hits=sum(int(np.argmax(d.scene)) == label for label, d in shown),
        scene_labels=len(shown),
        commonest_scene=max(Counter(label for label, _ in shown).values(), default=0),
    )


def crossfitted(
    decoder: Decoder, hierarchy: Hierarchy, answers: Sequence[ScoredAnswer]
) -> list[Decoded]:
    """Return each answer decoded with a calibration fitted on the other folds."""
    fold = np.random.default_rng(0).permutation(len(answers)) % FOLDS
    read = [
        decoder.calibrated(
            fit(hierarchy, [a for a, k in zip(answers, fold, strict=True) if k != own]).calibration
        )
        for own in range(FOLDS)
    ]
    return [decode(read[k], answer) for answer, k in zip(answers, fold.tolist(), strict=True)]


def decode(decoder: Decoder, answer: ScoredAnswer) -> Decoded:
    """Return the decoded answer."""
    return decoder.decode(answer.coarse, answer.middle, answer.fine, answer.scene)


def _error_km(answers: Sequence[ScoredAnswer], said: Sequence[Decoded]) -> Floats:
    longitude, latitude = np.array([d.position for d in said]).T
    true_longitude, true_latitude = np.array([(a.longitude, a.latitude) for a in answers]).T
    return great_circle_km(true_longitude, true_latitude, longitude, latitude)


def _confidence(said: Sequence[Decoded]) -> Floats:
    return np.array([d.confidence[AT_200_KM] for d in said], np.float64)


def _reliability(
    answers: Sequence[ScoredAnswer], said: Sequence[Decoded]
) -> ConfidenceReport | None:
    stated = _confidence(said)
    if np.isnan(stated).all():
        return None
    return assess_confidence(stated, hits(_error_km(answers, said))[:, AT_200_KM])
