"""Match the predictions of several systems to the truth, photograph by photograph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triton_models.cells.distance import Floats, great_circle_km
from triton_models.evaluation.predictions import AnswerState, PredictionRow, Predictions, by_id
from triton_models.evaluation.tables import EvaluationError, Remark
from triton_models.evaluation.truth import Truths, contradictions, merge


@dataclass(frozen=True, eq=False)
class System:
    """One system's answers in the order of the truths, [n]; NaN without an answer."""

    name: str
    answers: tuple[AnswerState, ...]
    longitude: Floats
    latitude: Floats
    confidence: Floats
    scenes: tuple[str | None, ...]
    error_km: Floats
    """Great-circle distance from the truth."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Truths, and every system's answers to them."""

    truths: Truths
    systems: tuple[System, ...]
    remarks: tuple[Remark, ...]
    """The remarks on all files, and on what could not be matched."""


def known_truths(truths: Truths | None, predictions: Sequence[Predictions]) -> Truths:
    """Return the given truths, or else those that the files of predictions have.

    Raises:
        EvaluationError: there are neither.
    """
    carried = [p.truths for p in predictions if p.truths is not None]
    if truths is not None:
        said = [r for other in carried for r in (*other.remarks, *contradictions(truths, other))]
        return truths.only([True] * len(truths), said)
    if not carried:
        raise EvaluationError("nothing says where the photographs were taken: give --truth")
    merged = carried[0]
    for other in carried[1:]:
        merged = merge(merged, other)
    return merged


def match(truths: Truths, predictions: Sequence[Predictions]) -> Matched:
    """Match predictions to truths by id, or by the id without its first folder.

    Our keys are ``<folder>/<path in it>``, truths name the path in the folder. A truth that no
    system has a row for is left out. Every system is scored on all others.

    Raises:
        EvaluationError: nothing matches.
    """
    remarks = [*truths.remarks, *(r for p in predictions for r in p.remarks)]
    tables = [_by_truth(p, truths, remarks) for p in predictions]
    answered = [any(name in table for table in tables) for name in truths.ids]
    if not any(answered):
        raise EvaluationError(_why_nothing(truths, predictions))
    silent = (k for k, has in enumerate(answered) if not has)
    remarks += [
        Remark(truths.source, truths.lines[k], truths.ids[k], "no_prediction") for k in silent
    ]
    scored = truths.only(answered)
    systems = (_system(p.name, scored, table) for p, table in zip(predictions, tables, strict=True))
    return Matched(scored, tuple(systems), tuple(remarks))


def _why_nothing(truths: Truths, predictions: Sequence[Predictions]) -> str:
    reasons = Counter(remark.reason for remark in truths.remarks)
    if not truths.ids:
        found = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        return f"{truths.source}: no truth that can be used ({found or 'no rows'})"
    example = next((name for p in predictions for name in p.rows), None)
    if example is None:
        return f"{', '.join(p.name for p in predictions)}: no predictions"
    return (
        f"no prediction has the id of a truth: predicted is {example!r}, true is {truths.ids[0]!r}"
    )


def _by_truth(
    predictions: Predictions, truths: Truths, remarks: list[Remark]
) -> dict[str, PredictionRow]:
    known, refused = set(truths.ids), {remark.id for remark in truths.remarks}
    found: list[PredictionRow] = []
    for name, row in predictions.rows.items():
        at = name if name in known else name.partition("/")[2]
        if at in known:
            found.append(replace(row, id=at))
        elif name not in refused and at not in refused:
            remarks.append(Remark(predictions.name, row.line, name, "no_truth"))
    return by_id(found, predictions.name, remarks)


def _system(name: str, truths: Truths, table: Mapping[str, PredictionRow]) -> System:
    rows = [table.get(key, PredictionRow(key, None, AnswerState.MISSING)) for key in truths.ids]
    longitude = np.array([row.longitude for row in rows], np.float64)
    latitude = np.array([row.latitude for row in rows], np.float64)
    return System(
        name=name,
        answers=tuple(row.answer for row in rows),
        longitude=longitude,
        latitude=latitude,
        confidence=np.array([row.confidence for row in rows], np.float64),
        scenes=tuple(row.scene for row in rows),
        error_km=great_circle_km(truths.longitude, truths.latitude, longitude, latitude),
    )
