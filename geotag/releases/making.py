"""Make a release from a training run: `geotag releases make`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from geotag.context import make_context
from geotag.output import errors
from geotag.releases.lifecycle import say
from geotag.training.train import pictures_of
from triton_models.fitting.calibration import CalibrationError
from triton_models.release.release import NAME, RELEASES
from triton_models.scenes.classes import SCENES
from triton_models.training.assessment import AT_200_KM
from triton_models.training.config import ConfigError
from triton_models.training.photographs import Row, read_rows, scene_classes
from triton_models.training.pictures import Pictures
from triton_models.training.releasing import Made, check, make, not_learnt
from triton_models.training.trained import VALIDATION, Trained
from workers.errors import UsageError
from workers.photo.reading import InputSpec


def run(
    folder: Path,
    name: str,
    out: Path,
    *,
    held_out: Path | None,
    photos: str | None,
    count: int,
    error_rate: float | None,
    attribution: Path | None,
    version: int,
) -> str:
    """Make the release `out / name` from a run's folder, and return its digest.

    Raises:
        UsageError: the run cannot become a release, the held-out photographs do not suffice, or
            the release cannot be written.
    """
    directory = _directory(name, out)
    try:
        trained = Trained.load(folder)
        check(trained)
        rows = _spread(_held_out(trained, held_out, photos), count)
        made = make(
            trained,
            _with_progress(rows),
            _pictures(trained, photos),
            directory,
            version=version,
            error_rate=error_rate,
            attribution=_text(attribution),
        )
    except ConfigError as error:
        raise UsageError(str(error)) from error
    except CalibrationError as error:
        raise UsageError(
            f"{error}: give more photographs, from places that it learnt, or another --error-rate"
        ) from error
    _report(made)
    return made.release.digest


def _directory(name: str, out: Path) -> Path:
    """Check the release's name and return its directory, before the long inference begins.

    `out` is created if it is missing.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name!r} is invalid: use only a-z, 0-9, . _ -")
    if (RELEASES / name).exists():
        raise UsageError(f"{name} is the name of a shipped release: choose another --name")
    if (directory := out / name).exists():
        raise UsageError(f"{directory} exists already: choose another --name or --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    return directory


def _held_out(trained: Trained, table: Path | None, photos: str | None) -> list[Row]:
    """Return the rows of a table, or the run's validation rows, that it was not trained on."""
    rows = trained.rows(VALIDATION) if table is None else read_rows(table)
    scene_classes(rows, SCENES)  # a wrong class fails now, not after minutes
    kept = not_learnt(trained, rows, elsewhere=photos is not None)
    if len(kept) < len(rows):
        say(f"{len(rows) - len(kept):,} photographs left out: the run was trained on them")
    if not kept:
        raise UsageError(
            f"{table or trained.folder}: the run was trained on every photograph: give a --held-out"
            " table of others (file, latitude, longitude, and scene if known)"
        )
    return kept


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, evenly spread."""
    return [rows[k] for k in np.linspace(0, len(rows) - 1, min(count, len(rows)), dtype=int)]


def _with_progress(rows: Sequence[Row]) -> Iterator[Row]:
    yield from track(rows, "inferring held-out photographs", console=errors, transient=True)
    say("calibrating")


def _pictures(trained: Trained, photos: str | None) -> Pictures:
    """Return the pictures, decoded as those of the run."""
    data, size = trained.description["config"]["data"], trained.network.image_size
    return pictures_of(photos or data["folder"], InputSpec(size, size, data["fit"]), make_context())


def _text(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: {error}") from error


def _report(made: Made) -> None:
    for code, number in made.bad.items():
        say(f"{number:,} pictures could not be used: {code}")
    found = made.figures
    say(f"{found.all.accuracy[AT_200_KM]:.1f} % of {found.all.n:,} placed within 200 km")
    if found.raw and found.calibrated:
        say(
            f"confidence at 200 km, before and after: log loss {found.raw.log_loss:.3f} and"
            f" {found.calibrated.log_loss:.3f}, calibration error"
            f" {found.raw.calibration_error:.3f} and {found.calibrated.calibration_error:.3f}"
        )
    if made.fit.calibration.abstain_below is None:
        say("it always answers: --error-rate makes it abstain")
    else:
        say(f"it answers {found.answered.n if found.answered else 0:,} of them")
