"""Make a release from a finished run and held-out photographs."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from triton_models.fitting import calibration
from triton_models.fitting.calibration import Fit
from triton_models.release.release import Release, write_release
from triton_models.release.serving import ReleaseRunner
from triton_models.scenes.classes import SCENES
from triton_models.training import model_card, trained
from triton_models.training.assessment import Figures, ScoredAnswer, assess
from triton_models.training.config import ConfigError
from triton_models.training.photographs import Row, scene_classes
from triton_models.training.pictures import BadPicture, Pictures
from triton_models.training.trained import LEARNT, Trained

_Key = tuple[str, float, float]

FEWEST = 50
"""Least number of held-out photographs for a meaningful calibration."""


@dataclass(frozen=True)
class Made:
    """A release and its figures on held-out photographs."""

    release: Release
    figures: Figures
    fit: Fit
    bad: Counter[str]
    """Number of held-out pictures that could not be used, by code."""


def check(run: Trained) -> None:
    """Raise ConfigError where the run cannot become a release."""
    if not run.network.scenes:
        raise ConfigError(
            f"{run.folder} was trained without a scene head, and workers read three scenes:"
            " train with network.scenes = 3 and a column scene in the table"
        )
    if run.scenes != SCENES:
        raise ConfigError(
            f"{run.folder} tells {', '.join(run.scenes)} apart; a release's scenes are"
            f" {', '.join(SCENES)}, in this order: train with them (data.scenes)"
        )
    if not any(run.count(LEARNT, scene) for scene in SCENES):
        raise ConfigError(
            f"{run.folder}: no photograph that it learnt from had a scene, so what it says of"
            " scenes is noise: train with a column scene (indoor, natural or urban) in the table"
        )
    for name in (trained.EXPORT, trained.SEGMENTATION):
        if not (run.folder / name).is_file():
            raise ConfigError(
                f"{run.folder}: {name} is missing; geotag train CONFIG --resume writes it again"
            )


def not_learnt(run: Trained, rows: Sequence[Row], *, elsewhere: bool = False) -> list[Row]:
    """Return the rows of photographs that a run did not learn from.

    A network is too confident on its training photographs, so they must not be used for
    calibration. A photograph is identified by its file's name without folders, and its position. So
    it is recognised if the folder has moved, and another file of the same name is another
    photograph. Unless the rows' files are in another folder (`elsewhere`), an equal path is the
    same photograph too, even if its position was corrected or rounded.
    """
    keys = [_key(row.file, row.longitude, row.latitude) for row in rows]
    wanted: set[_Key | str] = {*keys, *(() if elsewhere else (row.file for row in rows))}
    learnt: set[_Key | str] = set()
    for batch in run.photographs.filter(trained.of(LEARNT)).to_batches():
        columns = (batch[name].to_pylist() for name in ("file", "longitude", "latitude"))
        for file, *position in zip(*columns, strict=True):
            learnt |= wanted & {file, _key(file, *position)}
    return [row for row, key in zip(rows, keys, strict=True) if not learnt & {row.file, key}]


def _key(file: str, longitude: float, latitude: float) -> _Key:
    return PurePosixPath(file).name, round(longitude, 6), round(latitude, 6)


def make(
    run: Trained,
    rows: Iterable[Row],
    pictures: Pictures,
    directory: Path,
    *,
    version: int = 1,
    error_rate: float | None = None,
    attribution: str | None = None,
) -> Made:
    """Write the release `directory`, whose last part is its name.

    Args:
        run: that `check` let pass.
        rows: photographs that it did not learn from.
        pictures: of these rows, decoded to the network's size as the run decoded its own.
        directory: must not be there.
        version: under which Triton holds its models.
        error_rate: the greatest share of answers that may lie more than 200 km off; None: it
            always answers.
        attribution: what the model card says of the rights in what was learnt from (Markdown).

    Raises:
        ReleaseError: the parts do not fit together, or the name cannot be one.
        CalibrationError: too few photographs, none in a fine cell, or no threshold keeps the rate.
    """
    config = asdict(run.network)
    parts: dict[str, Any] = {
        "name": directory.name,
        "version": version,
        "fit": run.description["config"]["data"]["fit"],
        "scenes": SCENES,
        "segmentation": (run.folder / trained.SEGMENTATION, _segmentation(run)),
        "locator": (run.folder / trained.EXPORT, config),
        "locator_reads": run.description["locator_reads"],
    }
    with tempfile.TemporaryDirectory() as folder:
        draft = write_release(
            Path(folder, "draft"),
            **parts,
            cells=run.hierarchy,
            calibration=None,
            provenance={},
            model_card="",
        )
        answers, bad = answer(draft, rows, pictures)
        if len(answers) < FEWEST:
            why = "".join(f", {n} not: {code}" for code, n in bad.items())
            raise calibration.CalibrationError(
                f"{len(answers)} held-out photographs could be used{why}; {FEWEST} are the fewest"
            )
        fit = calibration.fit(run.hierarchy, answers, error_rate=error_rate)
        figures = assess(run.hierarchy, answers, fit.calibration)
        release = write_release(
            directory,
            **parts,
            cells=draft,
            calibration=fit.calibration.to_dict(),
            provenance=_provenance(run, fit, error_rate),
            model_card=model_card.text(directory.name, run, fit, figures, error_rate, attribution),
        )
    return Made(release, figures, fit, bad)


def answer(
    draft: Release, rows: Iterable[Row], pictures: Pictures
) -> tuple[list[ScoredAnswer], Counter[str]]:
    """Return a release's answers, and the number of photographs that could not be used, by code.

    Copies with the same bytes are used once. In two folds they would make a fit look too good.
    """
    locator, answers, bad, seen = ReleaseRunner(draft, threads=0), [], Counter[str](), set[bytes]()
    for row in rows:
        (label,) = scene_classes([row], SCENES)
        try:
            sha256, pixels = pictures.read(row.file)
        except BadPicture as error:
            bad[error.code] += 1
            continue
        if sha256 in seen:
            bad["repeated"] += 1
            continue
        seen.add(sha256)
        coarse, middle, fine, scene = locator.logits(pixels)
        answers.append(
            ScoredAnswer(coarse, middle, fine, row.longitude, row.latitude, scene, label)
        )
    return answers, bad


def _segmentation(run: Trained) -> dict[str, Any]:
    return {
        "classes": run.network.segmentation_classes,
        "image_size": run.network.image_size,
        "names": run.description["classes"],
        "sha256_as_given": run.description["data.segmentation"] or None,
    }


def _provenance(run: Trained, fit: Fit, error_rate: float | None) -> dict[str, Any]:
    config = run.description["config"]
    weights = {
        key: PurePosixPath(value).name if value else None
        for key, value in config["weights"].items()
    }
    photographs = run.count(LEARNT)
    return {
        "weights": "trained by geotag train",
        "knows": f"what {photographs:,} photographs in {run.network.fine:,} cells show;"
        " of the rest of the world it was not asked",
        "photographs": photographs,
        "photographs_sha256": run.description["data.photographs"],
        "calibrated_on": fit.photographs,
        "error_rate": error_rate,
        "network": config["network"],
        "augmentation": config["augmentation"],
        "training": config["training"],
        "starts_from": weights,
    }
