"""Read photographs of a folder as input of a release's networks."""

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
    """Return photographs of a folder and its subfolders, evenly spread over their sorted names.

    Files that are not photographs are skipped and not replaced.

    Args:
        settings: limits of decoding.
        release: the release whose input size and fit are used, as in a worker.
        folder: searched at any depth.
        count: the largest number of files to read.

    Returns:
        The paths, and the pixels as UINT8 [n, S, S, 3].

    Raises:
        UsageError: the folder has no photographs.
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
    """Yield each photograph's path and pixels [S, S, 3]; skip files that are not photographs."""
    size = release.manifest.image_size
    spec = InputSpec(height=size, width=size, fit=release.manifest.fit)
    limits = PhotoLimits(settings.max_bytes, settings.max_pixels, settings.decode_seconds)
    for path in paths:
        with suppress(PhotoError):
            yield path, read_photo(path.read_bytes(), spec, limits).pixels
