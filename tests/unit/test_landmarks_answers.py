"""The shipped release `landmarks` gives the stored answers on every processor.

`tests/golden/landmarks_answers.csv` has the stored answers for some photographs.
After a change of its weights or of the decoder, review the new answers and store them:
`python -m tests.unit.test_landmarks_answers > tests/golden/landmarks_answers.csv`.
"""

import csv
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from triton_models.answer.decoding import Decoded
from triton_models.answer.radii import RADII_KM
from triton_models.release.release import RELEASES, Release
from triton_models.release.serving import ReleaseRunner
from triton_models.scenes.classes import SCENES
from workers.photo.reading import InputSpec, PhotoLimits, read_photo

GOLDEN = Path(__file__).parents[1] / "golden" / "landmarks_answers.csv"
SHARED = Path(__file__).parents[3] / "shared" / "photos"

PACKAGED = "sklearn/datasets/images/"
"""scikit-learn's two sample photographs, which are installed wherever the tests run."""

POSITION_TOLERANCE = 1e-4
"""Degrees, about 11 m; another cell is farther away than that."""
CONFIDENCE_TOLERANCE = 0.005
"""Half of one per cent; results show confidence in whole per cent.

Instruction sets sum in other orders, and a few pixels of a class map may differ for it.
"""

Answer = Mapping[str, str]


def files() -> list[str]:
    with GOLDEN.open(newline="") as table:
        return [row["file"] for row in csv.DictReader(table)]


def path_of(file: str) -> Path:
    """Return the path of a photograph of the table on this machine."""
    if not file.startswith(PACKAGED):
        return SHARED / file
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent / file


def as_row(file: str, answer: Decoded) -> dict[str, str]:
    """Return an answer as a row of the table; an undefined confidence is empty."""
    longitude, latitude = answer.position.tolist()
    stated = {
        f"confidence_{radius:g}km": "" if np.isnan(value) else f"{value:.4f}"
        for radius, value in zip(RADII_KM, answer.confidence, strict=True)
    }
    return {
        "file": file,
        "longitude": f"{longitude:.5f}",
        "latitude": f"{latitude:.5f}",
        **stated,
        "fine_cell": str(answer.cells[2]),
        "scene": SCENES[int(np.argmax(answer.scene))],
        "abstention": answer.abstention,
    }


def answers(names: Iterable[str]) -> list[dict[str, str]]:
    """Decode photographs as a worker does; return the answers of the shipped networks."""
    release = Release.load(RELEASES / "landmarks")
    runner, manifest = ReleaseRunner(release), release.manifest
    spec = InputSpec(manifest.image_size, manifest.image_size, manifest.fit)
    limits = PhotoLimits(10**8, 10**8, 60)
    return [
        as_row(name, runner(read_photo(path_of(name).read_bytes(), spec, limits).pixels))
        for name in names
    ]


def differences(stored: Answer, found: Answer) -> list[str]:
    """Describe the fields of an answer that differ by more than the tolerances."""
    tolerances = {name: CONFIDENCE_TOLERANCE for name in stored if name.startswith("confidence_")}
    tolerances |= dict.fromkeys(("longitude", "latitude"), POSITION_TOLERANCE)
    return [
        f"{stored['file']}: {name} is {found[name] or 'empty'}, stored is {value or 'empty'}"
        for name, value in stored.items()
        if found[name] != value
        and not (
            name in tolerances
            and value
            and found[name]
            and abs(float(found[name]) - float(value)) <= tolerances[name]
        )
    ]


def compare(rows: list[Answer]) -> None:
    found = answers(row["file"] for row in rows)
    assert found
    wrong = [line for row, now in zip(rows, found, strict=True) for line in differences(row, now)]
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def stored() -> list[Answer]:
    with GOLDEN.open(newline="") as table:
        return list(csv.DictReader(table))


def test_the_answers_on_packaged_photographs_are_the_stored_ones(stored: list[Answer]) -> None:
    compare([row for row in stored if row["file"].startswith(PACKAGED)])


def test_the_answers_on_shared_photographs_are_the_stored_ones(
    stored: list[Answer], shared: Path
) -> None:
    """`shared` skips the test where the folder is absent."""
    compare([row for row in stored if (shared / "photos" / row["file"]).is_file()])


def test_the_table_holds_answers_and_abstentions_of_many_places(stored: list[Answer]) -> None:
    assert {row["abstention"] for row in stored} == {"", "unlike_training"}
    assert len({row["fine_cell"] for row in stored}) >= 10
    assert {row["scene"] for row in stored} >= {"natural", "urban"}


def test_a_difference_beyond_the_tolerance_is_named(stored: list[Answer]) -> None:
    row = dict(stored[0])
    near = row | {"confidence_200km": f"{float(row['confidence_200km']) - 0.004:.4f}"}
    far = row | {"confidence_200km": f"{float(row['confidence_200km']) - 0.006:.4f}"}
    assert not differences(row, near)
    assert len(differences(row, far)) == 1
    for changed in (
        {"scene": "indoor"}, {"fine_cell": "1"}, {"abstention": "too_little_evidence"},
        {"longitude": "0"}, {"confidence_1km": ""},
    ):  # fmt: skip
        assert len(differences(row, row | changed)) == 1


if __name__ == "__main__":
    lines = answers(files())
    writer = csv.DictWriter(sys.stdout, lines[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
