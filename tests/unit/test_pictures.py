"""Samples of photographs are spread over a whole folder, from the first to the last."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geotag.releases.pictures import prepared
from triton_models.release.release import RELEASES, Release
from workers.settings import WorkerSettings


@pytest.mark.parametrize(
    ("count", "numbers"),
    [
        (1, [0]),
        (3, [0, 2, 4]),
        (4, [0, 1, 2, 4]),  # with a step below two, the sample must not be the first four
        (5, [0, 1, 2, 3, 4]),
        (9, [0, 1, 2, 3, 4]),
    ],
)
def test_a_sample_is_spread_over_the_whole_folder(
    tmp_path: Path, count: int, numbers: list[int]
) -> None:
    for number in range(5):
        folder = tmp_path / str(number // 2)
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    release = Release.load(RELEASES / "untrained")
    paths, pixels = prepared(WorkerSettings(), release, tmp_path, count)
    assert [int(path.stem) for path in paths] == numbers
    assert np.array_equal(pixels[:, 0, 0, 0], numbers)
