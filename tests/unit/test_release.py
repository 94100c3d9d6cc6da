"""A release is complete and consistent, and its digest can be computed with sha256sum."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triton_models.release.release import (
    FILES,
    MODEL_CARD,
    RELEASES,
    Release,
    ReleaseError,
    sha256_of,
    write_release,
)

UNTRAINED = RELEASES / "untrained"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of a release that a test may damage."""
    return Path(shutil.copytree(UNTRAINED, tmp_path / "untrained"))


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "release.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_the_committed_release_loads() -> None:
    release = Release.load(UNTRAINED)
    assert (release.name, release.version, release.calibrated) == ("untrained", 1, False)
    assert release.manifest.scenes == ("indoor", "natural", "urban")
    assert "random" in release.file(MODEL_CARD).read_text()
    assert sum(path.stat().st_size for path in UNTRAINED.iterdir()) < 6e6


def test_digest_is_what_sha256sum_says() -> None:
    command = "sha256sum cells.parquet partitions.parquet release.json segmentation.onnx " \
        "translocator.onnx | sha256sum"  # fmt: skip
    said = subprocess.run(
        command, shell=True, cwd=UNTRAINED, capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[0] == Release.load(UNTRAINED).digest


def test_every_file_but_the_model_card_counts_in_the_digest(copy: Path) -> None:
    before = Release.load(copy).digest
    (copy / MODEL_CARD).write_text("another text")
    assert Release.load(copy).digest == before
    edit(copy, lambda values: values["provenance"].update(note="x"))
    assert Release.load(copy).digest != before


def test_tables() -> None:
    release = Release.load(UNTRAINED)
    cells, partitions = release.cells(), release.partitions()
    assert cells.column_names == ["token", "level", "parent", "polygon"]
    assert partitions.column_names == [
        "partition", "class_index", "token", "longitude", "latitude", "photographs", "spread_km",
    ]  # fmt: skip
    seen: set[str] = set()  # parents come before their children
    for token, parent in zip(cells["token"].to_pylist(), cells["parent"].to_pylist(), strict=True):
        assert parent is None or parent in seen
        seen.add(token)
    assert set(partitions["token"].to_pylist()) <= seen


@pytest.mark.parametrize("name", [*FILES, MODEL_CARD])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ReleaseError, match=name):
        Release.load(copy)


@pytest.mark.parametrize("name", ["segmentation.onnx", "translocator.onnx"])
def test_a_network_that_differs_from_the_manifest_is_refused(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ReleaseError, match=f"{name} is not the file"):
        Release.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(locator_reads="0" * 64), "trained on the class maps of 0000"),
        (lambda v: v["segmentation"]["config"].update(classes=9), "expects 8 segmentation classes"),
        (lambda v: v["locator"]["config"].update(fine=9), "fine: .* the locator scores 9"),
        (lambda v: v["locator"]["config"].update(image_size=9), "does not take pictures of 256"),
        (lambda v: v.update(scenes=["indoor"]), "scenes are indoor, natural, urban, in this order"),
        (lambda v: v.update(scenes=["urban", "natural", "indoor"]), "not urban, natural, indoor"),
        (lambda v: v["locator"]["config"].update(scenes=2), "tell 3 scenes apart"),
        (lambda v: v.update(crops=10), "give 10 crops"),
        (lambda v: v.update(version=0), "positive integer"),
        (lambda v: v.update(version="1"), "positive integer"),
        (lambda v: v.update(fit="stretch"), "crop or squash"),
        (lambda v: v.update(name="../up"), "name is of a-z"),
        (lambda v: v.update(calibration={"hotness": 2}), "calibration: .*hotness"),
        (lambda v: v.update(extra=1), "keys differ: .'extra'"),
        (lambda v: v.pop("crops"), "keys differ: .'crops'"),
        (lambda v: v["locator"].pop("sha256"), "sha256"),
        (lambda v: v.update(segmentation=None), "release.json"),
    ],
)
def test_a_manifest_that_disagrees_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(copy, change)
    with pytest.raises(ReleaseError, match=message):
        Release.load(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "release.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"release\.json"):
        Release.load(copy)


def test_a_cell_without_a_row_is_refused(copy: Path) -> None:
    cells = pq.read_table(copy / "cells.parquet")
    token = Release.load(copy).partitions()["token"][-1]
    pq.write_table(cells.filter(pa.compute.field("token") != token), copy / "cells.parquet")
    with pytest.raises(ReleaseError, match=r"1 cells are not in cells\.parquet"):
        Release.load(copy)


@pytest.mark.parametrize("name", ["cells.parquet", "partitions.parquet"])
def test_a_damaged_table_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"PAR1")
    with pytest.raises(ReleaseError, match="table of cells is damaged"):
        Release.load(copy)


def rewrite(directory: Path, **changes: Any) -> Release:
    release = Release.load(UNTRAINED)
    manifest = release.manifest
    arguments: dict[str, Any] = {
        "name": manifest.name,
        "version": manifest.version,
        "fit": manifest.fit,
        "scenes": manifest.scenes,
        "segmentation": (release.file("segmentation.onnx"), manifest.segmentation.config),
        "locator": (release.file("translocator.onnx"), manifest.locator.config),
        "locator_reads": manifest.locator_reads,
        "cells": release,
        "calibration": manifest.calibration,
        "provenance": manifest.provenance,
        "model_card": release.file(MODEL_CARD).read_text(),
    }
    return write_release(directory, **(arguments | changes))


def test_writing_the_same_parts_gives_the_same_release(tmp_path: Path) -> None:
    written = rewrite(tmp_path / "untrained")
    assert written.digest == Release.load(UNTRAINED).digest
    assert {path.name for path in tmp_path.iterdir()} == {"untrained"}


def test_a_mismatched_pair_is_not_written_and_the_old_release_is_kept(tmp_path: Path) -> None:
    before = rewrite(tmp_path / "untrained")
    other = sha256_of(UNTRAINED / "translocator.onnx")
    with pytest.raises(ReleaseError, match="trained on the class maps of"):
        rewrite(tmp_path / "untrained", locator_reads=other)
    assert Release.load(tmp_path / "untrained") == before
    assert {path.name for path in tmp_path.iterdir()} == {"untrained"}


def test_reading_a_release_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "from triton_models.release.release import RELEASES, Release\n"
        "import triton_models.release.build\n"
        "print(Release.load(RELEASES / 'untrained').digest)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == Release.load(UNTRAINED).digest
