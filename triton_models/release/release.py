"""Read, check and write release directories.

A release is everything that an answer depends on, in one directory with one digest.
`docs/architecture.md` lists its files. This module needs no torch, because the machines that serve
releases have none.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq

from triton_models.answer.confidence import Calibration
from triton_models.answer.decoding import Decoder
from triton_models.cells.geocells import LEVELS, Hierarchy, read_partitions, write_tables
from triton_models.scenes.classes import SCENES

FILES = (
    "cells.parquet",
    "partitions.parquet",
    "release.json",
    "segmentation.onnx",
    "translocator.onnx",
)
TABLES = ("cells.parquet", "partitions.parquet")
MODEL_CARD = "MODEL_CARD.md"
ATTRIBUTIONS = "ATTRIBUTIONS.md"  # optional; like the model card no part of the digest
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # part of Triton's model names and of paths
RELEASES = Path(__file__).parents[1] / "releases"  # the releases that come with the project


class ReleaseError(ValueError):
    """The directory is not a complete, consistent release."""


@dataclass(frozen=True)
class NetworkEntry:
    """One ONNX file: its SHA-256 and the configuration that it was built from."""

    sha256: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The contents of `release.json`."""

    name: str
    version: int  # Triton's version number of every model of this release
    image_size: int  # height and width of IMAGE
    fit: Literal["crop", "squash"]
    crops: int
    scenes: tuple[str, ...]
    segmentation: NetworkEntry
    locator: NetworkEntry
    # SHA-256 of the segmentation network whose class maps the locator was trained on.
    locator_reads: str
    calibration: Mapping[str, Any] | None
    provenance: Mapping[str, Any]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse `release.json`; raises ReleaseError where a key is missing, unknown or wrong."""
        try:
            values = json.loads(text)
            if values.keys() != (names := {f.name for f in fields(cls)}):
                raise ReleaseError(f"release.json: keys differ: {sorted(values.keys() ^ names)}")
            values["scenes"] = tuple(values["scenes"])
            values["segmentation"] = NetworkEntry(**values["segmentation"])
            values["locator"] = NetworkEntry(**values["locator"])
            manifest = cls(**values)
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise ReleaseError(f"release.json: {error}") from error
        if not NAME.fullmatch(str(manifest.name)):
            raise ReleaseError(f"release.json: name is of a-z, 0-9, . _ -, not {manifest.name!r}")
        if not isinstance(manifest.version, int) or manifest.version < 1:
            raise ReleaseError(f"release.json: version is a positive integer: {manifest.version}")
        if manifest.fit not in ("crop", "squash"):
            raise ReleaseError(f"release.json: fit is crop or squash, not {manifest.fit!r}")
        return manifest

    def to_json(self) -> str:
        """Return the text of `release.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Release:
    """A release directory that was found complete and consistent."""

    directory: Path
    manifest: Manifest
    digest: str

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read and check a release; raises ReleaseError where it is not complete or consistent."""
        missing = [name for name in (*FILES, MODEL_CARD) if not (directory / name).is_file()]
        if missing:
            raise ReleaseError(f"{directory} is not a release: no {', '.join(missing)}")
        manifest = Manifest.from_json(_text(directory / "release.json"))
        _text(directory / MODEL_CARD)
        if (directory / ATTRIBUTIONS).is_file():
            _text(directory / ATTRIBUTIONS)
        hashes = {name: sha256_of(directory / name) for name in FILES}
        _check_networks(manifest, hashes)
        release = cls(directory, manifest, _digest(hashes))
        _check_cells(release)
        _check_calibration(release)
        return release

    @property
    def name(self) -> str:
        """The name of the release."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """Triton's version number of its models."""
        return self.manifest.version

    @property
    def ensemble(self) -> str:
        """The name of its ensemble in Triton."""
        return f"geotag_{self.name}"

    @property
    def inspection(self) -> str:
        """The name of the ensemble that also offers the class map and the logits."""
        return f"inspect_{self.name}"

    @property
    def attributions(self) -> str:
        """The list of whose work the release rests on (Markdown); empty where it has none."""
        path = self.directory / ATTRIBUTIONS
        return _text(path) if path.is_file() else ""

    @property
    def calibrated(self) -> bool:
        """Whether its confidence is a probability. A release that is not calibrated states none."""
        return self.manifest.calibration is not None

    @property
    def decoder(self) -> Decoder:
        """The decoder that turns its logits into an answer."""
        fitted = self.manifest.calibration
        calibration = None if fitted is None else Calibration.from_dict(dict(fitted))
        return self.hierarchy.decoder(calibration)

    def file(self, name: str) -> Path:
        """Return the path of one of the release's files."""
        return self.directory / name

    def cells(self) -> pa.Table:
        """Return every cell that the release can name, parents first.

        Columns: token, level, parent, polygon (MultiPolygon as WKB, longitude/latitude, WGS 84).
        """
        return pq.read_table(self.file("cells.parquet"))

    def partitions(self) -> pa.Table:
        """Return one row for each class of each partition.

        Columns: partition, class_index, token, longitude, latitude, photographs, spread_km.
        """
        return pq.read_table(self.file("partitions.parquet"))

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The three partitions."""
        return read_partitions(self.file("partitions.parquet"))


def write_release(
    directory: Path,
    *,
    name: str,
    version: int,
    fit: Literal["crop", "squash"],
    scenes: tuple[str, ...],
    segmentation: tuple[Path, Mapping[str, Any]],
    locator: tuple[Path, Mapping[str, Any]],
    locator_reads: str,
    cells: Hierarchy | Release,
    calibration: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    model_card: str,
    attributions: str = "",
) -> Release:
    """Write a release from exported networks (each an ONNX file and its configuration).

    `cells`: its partitions, or a release whose tables are copied byte for byte. (Polygons computed
    on two machines may differ in the last bit.) `locator_reads`: the SHA-256 of the
    segmentation.onnx that the locator was trained with.

    Raises ReleaseError where the parts do not fit together; nothing is written then.
    """
    staging = directory.with_name(f".{directory.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        shutil.copyfile(segmentation[0], staging / "segmentation.onnx")
        shutil.copyfile(locator[0], staging / "translocator.onnx")
        if isinstance(cells, Release):
            for table in TABLES:
                shutil.copyfile(cells.file(table), staging / table)
        else:
            write_tables(cells, staging)
        manifest = Manifest(
            name=name,
            version=version,
            image_size=locator[1]["image_size"],
            fit=fit,
            crops=locator[1]["crops"],
            scenes=scenes,
            segmentation=NetworkEntry(sha256_of(segmentation[0]), segmentation[1]),
            locator=NetworkEntry(sha256_of(locator[0]), locator[1]),
            locator_reads=locator_reads,
            calibration=calibration,
            provenance=provenance,
        )
        (staging / "release.json").write_text(manifest.to_json())
        (staging / MODEL_CARD).write_text(model_card)
        if attributions:
            (staging / ATTRIBUTIONS).write_text(attributions)
        Release.load(staging)
        replace_directory(staging, directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Release.load(directory)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_directory(staging: Path, target: Path) -> None:
    """Replace a directory by a finished one on the same filesystem."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _digest(hashes: Mapping[str, str]) -> str:
    """Return the SHA-256 of what `sha256sum` prints for these files, sorted by name."""
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(text.encode()).hexdigest()


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{file} is no UTF-8 text: {error}") from error


def _check_networks(manifest: Manifest, hashes: Mapping[str, str]) -> None:
    for network, name in (
        (manifest.segmentation, "segmentation.onnx"),
        (manifest.locator, "translocator.onnx"),
    ):
        if network.sha256 != hashes[name]:
            raise ReleaseError(f"{name} is not the file that release.json was written for")
        if network.config.get("image_size") != manifest.image_size:
            raise ReleaseError(f"{name} does not take pictures of {manifest.image_size} px")
    if manifest.locator_reads != manifest.segmentation.sha256:
        raise ReleaseError(
            f"the locator was trained on the class maps of {manifest.locator_reads[:12]}, "
            f"not on those of {manifest.segmentation.sha256[:12]}"
        )
    classes = manifest.locator.config.get("segmentation_classes")
    if manifest.segmentation.config.get("classes") != classes:
        raise ReleaseError(f"the locator expects {classes} segmentation classes")
    if manifest.locator.config.get("crops") != manifest.crops:
        raise ReleaseError(f"the locator does not give {manifest.crops} crops")
    if manifest.scenes != SCENES:
        raise ReleaseError(
            f"release.json: scenes are {', '.join(SCENES)}, in this order, as workers name them;"
            f" not {', '.join(map(str, manifest.scenes))}"
        )
    if manifest.locator.config.get("scenes") != len(manifest.scenes):
        raise ReleaseError(f"the locator does not tell {len(manifest.scenes)} scenes apart")


def _check_cells(release: Release) -> None:
    """Check that heads match partitions, and that every partition's cell is in the cell table."""
    try:
        hierarchy = release.hierarchy
        known = set(release.cells()["token"].to_pylist())
    except (ValueError, KeyError, OSError) as error:  # Arrow's errors are among these
        raise ReleaseError(f"a table of cells is damaged: {error}") from error
    for level, partition in zip(LEVELS, hierarchy.partitions, strict=True):
        head = release.manifest.locator.config.get(level)
        if len(partition) != head:
            raise ReleaseError(f"{level}: {len(partition)} cells, but the locator scores {head}")
        if unknown := set(partition.tokens) - known:
            raise ReleaseError(f"{level}: {len(unknown)} cells are not in cells.parquet")


def _check_calibration(release: Release) -> None:
    if release.manifest.calibration is not None:
        try:
            Calibration.from_dict(dict(release.manifest.calibration))
        except (TypeError, ValueError) as error:
            raise ReleaseError(f"release.json: calibration: {error}") from error
