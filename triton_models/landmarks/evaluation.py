"""Evaluate the recipe's accuracy, calibration and abstention on left-out photographs.

The parameters fitted after the networks (weights of familiarity, curves, threshold) are
cross-fitted: for each fold, or site, they are fitted without any answer about its photographs. Only
the three temperatures and the prior's weight are fitted once, on all folds. Intervals are by
bootstrap over series, or over sites where sites were left out.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import REGION_LEVELS, Decoded, Decoder, Floats
from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import great_circle_km
from triton_models.fitting import calibration
from triton_models.fitting.calibration import Scored
from triton_models.fitting.reliability import assess_confidence, assess_regions, wilson
from triton_models.landmarks import baselines
from triton_models.landmarks.familiarity import fit_weights
from triton_models.landmarks.figures import (
    Flags,
    accuracy,
    calibration_interval,
    difference,
    hits,
    share_interval,
)
from triton_models.landmarks.heldout import SEEDS, Answers
from triton_models.landmarks.photographs import Photographs
from triton_models.landmarks.releasing import STRANGERS, fit, scored, with_threshold
from triton_models.landmarks.study import ABLATION, LITE2, Ints, Study

AT_200_KM = RADII_KM.index(200.0)
Series = npt.NDArray[Any]
NO_SCENE = np.zeros((1, 3), np.float32)


@dataclass(frozen=True, eq=False)
class Judged:
    """Decoded answers of left-out photographs, and the distance error of each."""

    answers: Sequence[Decoded]
    km: Floats

    @property
    def hits(self) -> Flags:
        """Whether each error is within each of RADII_KM, [n, 5]."""
        return self.km[:, None] <= np.array(RADII_KM)

    @property
    def confidence(self) -> Floats:
        """The stated confidence for each of RADII_KM, [n, 5]."""
        return np.stack([answer.confidence for answer in self.answers])

    @property
    def abstained(self) -> Flags:
        """Whether the release abstained on each photograph, [n]."""
        return np.array([bool(answer.abstention) for answer in self.answers])


def judge(study: Study, known: Answers, strange: Answers, base: Calibration) -> list[Judged]:
    """Return the photographs judged by fold, and judged by networks trained without their site.

    Both are decoded with parameters fitted without the fold, or the site. `base`: temperatures and
    the prior's weight.
    """
    photographs = study.photographs
    site, fold = photographs.sites[photographs.place], photographs.folds()
    held: list[Decoded | None] = [None] * len(fold)
    foreign = list(held)
    for group, number, asked, into in (
        *((fold, k, known, held) for k in np.unique(fold)),
        *((site, s, strange, foreign) for s in np.unique(site)),
    ):
        mine = group == number
        others = np.flatnonzero(~mine)
        weights = fit_weights(known.signs[others], strange.signs[others], site[others])
        candidates = scored(study, known, weights)
        unknown = scored(study, strange, weights)
        decoder = fit_decoder(
            study, [candidates[k] for k in others], [unknown[k] for k in others], base
        )
        ask = candidates if asked is known else unknown
        for k in np.flatnonzero(mine):
            into[k] = decoder.decode(ask[k].coarse, ask[k].middle, ask[k].fine, NO_SCENE)
    return [_judged(photographs, held), _judged(photographs, foreign)]


def fit_decoder(
    study: Study, known: Sequence[Scored], strange: Sequence[Scored], base: Calibration
) -> Decoder:
    """Return the decoder with curves, and a threshold at which a share of ABSTAIN abstains."""
    decoder = study.hierarchy.decoder(base)
    fitted = calibration.fit_confidence(decoder, known, None, strange, STRANGERS)
    return decoder.calibrated(with_threshold(study, fitted, known))


def _judged(photographs: Photographs, answers: Sequence[Decoded | None]) -> Judged:
    found = [answer for answer in answers if answer is not None]
    longitude, latitude = np.stack([answer.position for answer in found]).T
    place = photographs.place
    km = great_circle_km(
        longitude, latitude, photographs.longitude[place], photographs.latitude[place]
    )
    return Judged(found, km)


def report(photographs: Photographs, judged: Judged) -> dict[str, Any]:
    """Return accuracy, calibration, coverage and abstention on held-out photographs."""
    place, series = photographs.place, photographs.series
    confidence = {}
    for radius, km in enumerate(RADII_KM):
        stated, right = judged.confidence[:, radius], judged.hits[:, radius]
        rows = ~np.isnan(stated)
        if rows.any():
            said = {
                k: v for k, v in asdict(assess_confidence(stated, right)).items() if k != "bins"
            }
            confidence[f"{km:g} km"] = said | {
                "calibration_error_interval": calibration_interval(
                    series[rows], stated[rows], right[rows]
                )
            }
    return {
        "accuracy": accuracy(judged.hits),
        "accuracy_where_answered": accuracy(judged.hits[~judged.abstained]),
        "confidence": confidence,
        "regions": [
            region(judged, k, photographs.longitude[place], photographs.latitude[place], series)
            for k in range(len(REGION_LEVELS))
        ],
        "abstention": abstention(judged, series),
    }


def region(
    judged: Judged, k: int, longitude: Floats, latitude: Floats, series: Series
) -> dict[str, Any]:
    """Return the figures of the regions of REGION_LEVELS[k]."""
    cells = [answer.region_cells[k].tolist() for answer in judged.answers]
    stated = [answer.region_probabilities[k].tolist() for answer in judged.answers]
    level = REGION_LEVELS[k]
    said = assess_regions(level, cells, stated, longitude, latitude)
    holds = [
        assess_regions(level, [c], [p], [lon], [lat]).coverage
        for c, p, lon, lat in zip(cells, stated, longitude, latitude, strict=True)
    ]
    return asdict(said) | {"coverage_interval": share_interval(series, holds)}


def abstention(judged: Judged, group: Series) -> dict[str, Any]:
    """Return counts and reasons of abstentions, and mean confidence; `group` [n] is drawn."""
    stated = judged.confidence[:, AT_200_KM]
    reasons = Counter(answer.abstention for answer in judged.answers if answer.abstention)
    return {
        "photographs": len(judged.answers),
        "abstained": int(judged.abstained.sum()),
        "share": float(judged.abstained.mean()),
        "interval": share_interval(group, judged.abstained),
        "reasons": dict(reasons),
        "mean_confidence_200_km": float(stated.mean()),
    }


def strangers(photographs: Photographs, judged: Judged) -> dict[str, Any]:
    """Return the abstention on photographs of left-out sites, together and for each site."""
    site = photographs.sites[photographs.place]
    by_site = {}
    for number in np.unique(site):
        rows = np.flatnonzero(site == number)
        name = photographs.places[photographs.place[rows[0]]]
        own = Judged([judged.answers[int(k)] for k in rows], judged.km[rows])
        by_site[name] = abstention(own, photographs.series[rows])
    shares = np.array([said["share"] for said in by_site.values()])
    return {
        "all": abstention(judged, site),
        "mean_share_of_sites": float(shares.mean()),
        "mean_share_of_sites_interval": share_interval(np.arange(len(shares)), shares),
        "sites": by_site,
    }


def results(study: Study, work: Path, table: Path) -> dict[str, Any]:
    """Return all figures, from the answers of `folds`, `strangers` and `ablation` in `work`.

    Write the answers to `table`, so that they can be evaluated independently.
    """
    known = Answers.load(work / f"folds_{SEEDS[0]}.npz")
    strange = Answers.load(work / "strangers.npz")
    photographs = study.photographs
    weights, fitted = fit(study, work)
    plain = Calibration()
    base = replace(fitted, slopes=plain.slopes, intercepts=plain.intercepts, abstain_below=None)
    at_home, away = judge(study, known, strange, base)
    write_answers(study, at_home, away, table)
    seeds = [Answers.load(work / f"folds_{seed}.npz") for seed in SEEDS]
    return {
        "photographs": len(photographs),
        "places": len(photographs.places),
        "sites": len(np.unique(photographs.sites)),
        "radii_km": RADII_KM,
        "known": report(photographs, at_home),
        "strangers": strangers(photographs, away),
        "accuracy": accuracies(study, at_home, seeds),
        "scene": {
            "all": scene_accuracy(study, known, doubtful=True),
            "without_doubtful": scene_accuracy(study, known, doubtful=False),
        },
        "ablation": ablation(study, work / "ablation.npz"),
        "familiarity_weights": weights.tolist(),
        "calibration": fitted.to_dict(),
    }


def write_answers(study: Study, at_home: Judged, away: Judged, table: Path) -> None:
    """Write a CSV with a row for each photograph and `left_out` (its fold or its site).

    Positions are in degrees.
    """
    photographs = study.photographs
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        radii = [f"confidence_{km:g}_km" for km in RADII_KM]
        rows.writerow(
            ["file", "left_out", "fold", "longitude", "latitude", "km", *radii, "abstention"]
        )
        for left_out, judged in (("fold", at_home), ("site", away)):
            for name, fold, said, km in zip(
                photographs.files, photographs.folds(), judged.answers, judged.km, strict=True
            ):
                position = [f"{degrees:.4f}" for degrees in said.position]
                confidence = [f"{c:.4f}" for c in said.confidence]
                start = [name, left_out, fold, *position, f"{km:.1f}"]
                rows.writerow([*start, *confidence, said.abstention])


def accuracies(study: Study, judged: Judged, seeds: Sequence[Answers]) -> dict[str, Any]:
    """Return the accuracy of the release and the baselines in the same folds, and differences."""
    photographs, fold = study.photographs, study.photographs.folds()
    stems = [np.asarray(seen.means[0]) for seen in study.views.seen]
    together = np.concatenate(stems, axis=1)
    # What the memories compare: both views, by the generalised mean.
    pooled = [np.asarray(seen.pooled[:2]).mean(axis=0) for seen in study.views.seen]
    easy = {
        name: hits(photographs, method(means, photographs.place, fold))
        for name, method, means in (
            ("logistic", baselines.logistic, stems[LITE2]),
            ("nearest", baselines.nearest, stems[LITE2]),
            ("logistic_three_stems", baselines.logistic, together),
            ("nearest_three_stems", baselines.nearest, together),
            ("nearest_pooled", baselines.nearest, np.concatenate(pooled, axis=1)),
            ("commonest", baselines.commonest, stems[LITE2]),
        )
    }
    each = np.array([accuracy(hits(photographs, places(study, answers))) for answers in seeds])
    best = [
        max(easy, key=lambda name: easy[name][:, radius].sum()) for radius in range(len(RADII_KM))
    ]
    return {
        "release": accuracy(judged.hits),
        "seeds": {
            "mean": each.mean(axis=0).round(1).tolist(),
            "deviation": each.std(axis=0, ddof=1).round(2).tolist(),
            "each": each.tolist(),
        },
        "baselines": {name: accuracy(flags) for name, flags in easy.items()},
        "folds": [
            {
                "photographs": int((fold == k).sum()),
                "release": accuracy(judged.hits[fold == k]),
                **{name: accuracy(flags[fold == k]) for name, flags in easy.items()},
            }
            for k in np.unique(fold)
        ],
        "release_minus_better_baseline": [
            {
                "baseline": name,
                **asdict(difference(photographs, judged.hits[:, r], easy[name][:, r])),
            }
            for r, name in enumerate(best)
        ],
    }


def places(study: Study, answers: Answers) -> Ints:
    """Return the most probable place by f*."""
    coarse, middle, fine = study.cells.T
    f_star = answers.coarse[:, coarse] + answers.middle[:, middle] + answers.fine[:, fine]
    said: Ints = f_star.argmax(axis=1)
    return said


def scene_accuracy(study: Study, known: Answers, *, doubtful: bool) -> dict[str, Any]:
    """Return the scene accuracy on labelled landmarks without training labels, by fold."""
    truth = study.scenes("test", doubtful)
    rows = truth >= 0
    right = known.scene[rows].argmax(axis=1) == truth[rows]
    return {
        "photographs": int(rows.sum()),
        "accuracy": round(float(right.mean()), 4),
        "interval": wilson(int(right.sum()), int(rows.sum())),
        "commonest": round(float(np.bincount(truth[rows]).max() / rows.sum()), 4),
    }


def ablation(study: Study, path: Path) -> dict[str, Any]:
    """Return the accuracy of each configuration, its spread over seeds, and paired differences."""
    if not path.is_file():
        return {}
    with np.load(path) as stored:
        said = {name: hits(study.photographs, stored[name]) for name in stored.files}
    rows: dict[str, Any] = {}
    before: list[Flags] = []
    for name, _ in ABLATION:
        runs = [flags for key, flags in said.items() if key.startswith(f"{name}, seed")]
        if not runs:
            continue
        each = np.array([accuracy(flags) for flags in runs])
        rows[name] = {
            "seeds": len(runs),
            "mean": each.mean(axis=0).round(1).tolist(),
            "deviation": each.std(axis=0, ddof=1).round(2).tolist() if len(runs) > 1 else None,
            "step_at_200_km": [
                asdict(difference(study.photographs, a[:, AT_200_KM], b[:, AT_200_KM]))
                for a, b in zip(runs, before, strict=False)
            ],
        }
        before = runs
    return rows
