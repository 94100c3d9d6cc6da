"""A folder of photographs as a release's networks see them."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from geotag.output import errors
from triton_models.release.release import Release
from workers.errors import PhotoError, UsageError
from workers.photo.reading import InputSpec, PhotoLimits, read_photo
from workers.settings import WorkerSettings


def prepared(
    settings: WorkerSettings, release: Release, folder: Path, count: int
) -> tuple[list[Path], NDArray[np.uint8]]:
    """Photographs out of a folder and those below it, evenly spread over their sorted names.

    What is no photograph is passed over, and not replaced.

    Args:
        settings: limits of decoding.
        release: whose input they are prepared for, as a worker does it.
        folder: with files at any depth.
        count: at most so many.

    Returns:
        Their paths, and UINT8 [n, S, S, 3].

    Raises:
        UsageError: there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    spread = np.linspace(0, len(files) - 1, min(count, len(files)), dtype=int)
    chosen = track(
        [files[number] for number in np.unique(spread)],
        description="reading photographs",
        console=errors,
        transient=True,
    )
    pairs = list(decoded(settings, release, chosen))
    if not pairs:
        raise UsageError(f"{folder}: no photographs")
    return [path for path, _pixels in pairs], np.stack([pixels for _path, pixels in pairs])


def decoded(
    settings: WorkerSettings, release: Release, paths: Iterable[Path]
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Each photograph with its pixels as the release wants them; others are passed over."""
    size = release.manifest.image_size
    spec = InputSpec(height=size, width=size, fit=release.manifest.fit)
    limits = PhotoLimits(settings.max_bytes, settings.max_pixels, settings.decode_seconds)
    for path in paths:
        with suppress(PhotoError):
            yield path, read_photo(path.read_bytes(), spec, limits).pixels
