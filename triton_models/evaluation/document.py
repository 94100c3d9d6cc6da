"""Build the document of an evaluation, with stable names (docs/evaluation.md).

Accuracies are in per cent, distances in kilometres, positions in degrees (WGS 84); what is not
known is null.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations, groupby
from typing import Any

import numpy as np

from triton_models.answer.radii import RADII_KM
from triton_models.evaluation.compare import Comparison, compare
from triton_models.evaluation.confidences import CONFIDENCE_KM, calibration, coverage_curve
from triton_models.evaluation.continents import continents
from triton_models.evaluation.matching import Matched, System
from triton_models.evaluation.predictions import AnswerState
from triton_models.evaluation.published_results import Benchmark
from triton_models.evaluation.scores import RESAMPLES, Score, score
from triton_models.evaluation.tables import Effect, Remark
from triton_models.fitting.reliability import ConfidenceReport

Document = dict[str, Any]

RADII = tuple(f"{radius:g}" for radius in RADII_KM)
_NAMED = 10
_DIGITS = 9
"""Significant ones: the same evaluation on another machine prints the same document."""


def evaluate(
    matched: Matched,
    benchmark: Benchmark | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Document:
    """Score every system, compare each two, and list what was not used.

    The scores of the first system stand at the top level too, under the same names.
    """
    continent = continents(matched.truths.longitude, matched.truths.latitude)
    systems = [_system(s, matched, continent, resamples, seed) for s in matched.systems]
    document = systems[0] | {
        "systems": systems,
        "comparisons": [
            _comparison(a, b, compare(a.error_km, b.error_km, resamples=resamples, seed=seed))
            for a, b in combinations(matched.systems, 2)
        ],
        "benchmark": _benchmark(benchmark, len(matched.truths)),
        "published": _published(benchmark),
        "left_out": remarks_by_reason(matched.remarks, (Effect.LEFT_OUT,)),
        "noted": remarks_by_reason(matched.remarks, (Effect.MISS, Effect.USED)),
        "bootstrap": {"resamples": resamples, "seed": seed},
    }
    rounded: Document = _plain(document)
    return rounded


def _system(
    system: System, matched: Matched, continent: Sequence[str], resamples: int, seed: int
) -> Document:
    true_scenes = matched.truths.scenes
    has_scenes = any(true_scenes)

    def by(groups: Sequence[str | None]) -> Document:
        labels = np.array([g or "" for g in groups])
        return {
            label: _score(score(system.error_km[labels == label], resamples=resamples, seed=seed))
            for label in sorted({g for g in groups if g})
        }

    return {
        "name": system.name,
        **_score(score(system.error_km, resamples=resamples, seed=seed)),
        "answers": {a.value: system.answers.count(a) for a in AnswerState},
        "by_continent": by(continent),
        "by_scene": by(true_scenes if has_scenes else system.scenes),
        "scene_source": "truth" if has_scenes else "prediction" if any(system.scenes) else None,
        "calibration": _calibration(calibration(system.error_km, system.confidence, seed=seed)),
        "coverage": [
            {"threshold": p.threshold, "coverage": p.coverage, "accuracy": by_radius(p.accuracy)}
            for p in coverage_curve(system.error_km, system.confidence)
        ],
        "worst": worst(system, matched),
    }


def by_radius(values: Sequence[Any]) -> Document:
    """Return five values by the names of their radii."""
    return dict(zip(RADII, values, strict=True))


def _score(s: Score) -> Document:
    return {
        "n": s.n,
        "answered": s.answered,
        "accuracy": by_radius(s.accuracy),
        "median_km": s.median_km,
        "mean_km": s.mean_km,
        "geoguessr": s.geoguessr,
        "intervals": {
            "accuracy": by_radius(s.accuracy_intervals),
            "median_km": s.median_interval,
            "mean_km": s.mean_interval,
            "geoguessr": s.geoguessr_interval,
        },
    }


def _calibration(report: ConfidenceReport | None) -> Document | None:
    if report is None:
        return None
    return {
        "radius_km": CONFIDENCE_KM,
        "n": report.count,
        "unstated": report.unstated,
        "ece": report.calibration_error,
        "ece_interval": report.calibration_error_interval,
        "brier": report.brier,
        "brier_constant": report.brier_constant,
        "nll": report.log_loss,
        "nll_constant": report.log_loss_constant,
        "bins": [asdict(b) for b in report.bins],
    }


def worst(system: System, matched: Matched, most: int = _NAMED) -> list[Document]:
    """Return the answers with the largest errors, the largest first."""
    order = np.argsort(-np.nan_to_num(system.error_km, nan=-1.0), kind="stable")
    truths = matched.truths
    return [
        {
            "id": truths.ids[k],
            "error_km": float(system.error_km[k]),
            "true": list(truths.place(k)),
            "predicted": [float(system.longitude[k]), float(system.latitude[k])],
            "confidence": float(system.confidence[k]),
        }
        for k in order[:most].tolist()
        if system.answers[k] is AnswerState.ANSWERED
    ]


def _comparison(a: System, b: System, found: Sequence[Comparison]) -> Document:
    return {"first": a.name, "second": b.name, "accuracy": by_radius([asdict(c) for c in found])}


def _benchmark(benchmark: Benchmark | None, scored: int) -> Document | None:
    if benchmark is None:
        return None
    return {
        "name": benchmark.name,
        "photographs": benchmark.photographs,
        "scored": scored,
        "complete": scored == benchmark.photographs,
        "note": benchmark.note,
    }


def _published(benchmark: Benchmark | None) -> list[Document]:
    rows = benchmark.rows if benchmark else ()
    return [{"method": method, "accuracy": by_radius(values)} for method, values in rows]


def remarks_by_reason(remarks: Sequence[Remark], effects: Sequence[Effect]) -> Document:
    """Count remarks by file and reason, and name the first ten of each."""
    chosen = [remark for remark in remarks if remark.effect in effects]

    def kind(remark: Remark) -> tuple[str, str, str]:
        return remark.source, remark.reason, remark.effect

    groups = []
    for (source, reason, effect), same in groupby(sorted(chosen, key=kind), key=kind):
        rows = list(same)
        sample = [{"line": r.line, "id": r.id, "detail": r.detail} for r in rows[:_NAMED]]
        found = {"source": source, "reason": reason, "effect": effect}
        groups.append(found | {"count": len(rows), "sample": sample})
    return {"total": len(chosen), "reasons": groups}


def _plain(value: Any) -> Any:
    """Return a value for JSON: without NaN, tuples and meaningless digits."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
