"""Figures of a model card: each answer is read with a calibration fitted without it."""

from dataclasses import replace

import numpy as np
import pytest

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import Decoder
from triton_models.cells.partitioning import Limits, build_hierarchy
from triton_models.fitting.calibration import Scored
from triton_models.training import assessment
from triton_models.training.assessment import FOLDS, ScoredAnswer, assess
from triton_models.training.photographs import NO_LABEL

PLACES = ((2.35, 48.86), (151.21, -33.86), (-58.38, -34.60))
"""Longitude and latitude of Paris, Sydney and Buenos Aires."""
COUNT = 60
HIERARCHY, _ = build_hierarchy(
    [np.repeat(PLACES, 10, axis=0) + np.random.default_rng(0).uniform(-0.1, 0.1, (30, 2))],
    coarse=Limits(1, 10),
    middle=Limits(1, 10),
    fine=Limits(1, 10),
)


def answers() -> list[ScoredAnswer]:
    """Answers that are all equally sure; three of four are right."""
    partitions, found = HIERARCHY.partitions, []
    for k in range(COUNT):
        place = PLACES[k % 3]
        said = PLACES[(k + (k % 4 == 0)) % 3]
        heads = []
        for partition in partitions:
            logits = np.zeros((1, len(partition)), np.float32)
            logits[0, partition.locate([said[0]], [said[1]])[0]] = 12
            heads.append(logits)
        scene = np.eye(3, dtype=np.float32)[[k % 3]]
        label = NO_LABEL if k % 2 else k % 3
        found.append(ScoredAnswer(*heads, *place, scene, label))
    return found


def test_every_answer_is_read_with_a_calibration_fitted_on_the_other_folds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, fitted = answers(), list[list[Scored]]()
    fit = assessment.fit

    def noting(hierarchy: object, photographs: list[Scored]) -> object:
        found = fit(HIERARCHY, photographs)
        fitted.append(photographs)
        # Marks the readings of this calibration.
        marked = replace(found.calibration, abstain_below=len(fitted) / 10)
        return replace(found, calibration=marked)

    def reading(decoder: Decoder, answer: ScoredAnswer) -> tuple[Calibration | None, ScoredAnswer]:
        return decoder.calibration, answer

    monkeypatch.setattr(assessment, "fit", noting)
    monkeypatch.setattr(assessment, "decode", reading)
    said = assessment.crossfitted(HIERARCHY.decoder(), HIERARCHY, given)
    assert [len(photographs) for photographs in fitted] == [COUNT - COUNT // FOLDS] * FOLDS
    for asked, (calibration, answer) in zip(given, said, strict=True):  # type: ignore[misc]
        assert answer is asked
        of = fitted[round(10 * calibration.abstain_below) - 1]
        assert not any(other is asked for other in of)


def test_the_figures_of_a_network_that_is_too_sure() -> None:
    given = answers()
    figures = assess(HIERARCHY, given, assessment.fit(HIERARCHY, given).calibration)
    assert figures.all.accuracy[assessment.AT_200_KM] == 75
    assert figures.answered is not None
    assert figures.answered.n == figures.all.n == COUNT
    assert figures.raw is not None
    assert figures.calibrated is not None
    assert figures.raw.calibration_error > 0.2 > figures.calibrated.calibration_error
    assert figures.raw.log_loss > figures.calibrated.log_loss
    assert (figures.scene_hits, figures.scene_labels) == (COUNT // 2, COUNT // 2)
    assert figures.commonest_scene == COUNT // 6
    none = assess(HIERARCHY, given, Calibration(abstain_below=1.0))
    assert none.answered is None
