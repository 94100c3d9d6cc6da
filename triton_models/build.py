"""Build Triton's model repository from releases.

The repository is a function of the releases, the templates beside this file and the target; its
fingerprint is kept in it, so building again changes nothing. Several releases stand side by side:
each is one version of `segmentation`, `translocator` and `geodecode`, and one ensemble.

    segmentation/   config.pbtxt   VERSION/ model.py model.onnx
    translocator/   config.pbtxt   VERSION/ model.py model.onnx
    geodecode/      config.pbtxt   VERSION/ model.py decoder.npz digest triton_models/
    geotag_NAME/    config.pbtxt   1/      the answers: what workers ask
    inspect_NAME/   config.pbtxt   1/      the same with class map and logits, for tests and tools
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2

from triton_models.decoding import STANDALONE
from triton_models.release import Release, replace_directory

Target = Literal["cpu"]

TEMPLATES = Path(__file__).parent / "repository"
# What geodecode runs: these need numpy alone, and travel as a package of their own.
DECODING = tuple(Path(__file__).with_name(name) for name in ("__init__.py", *STANDALONE))
FINGERPRINT = "fingerprint"

MAX_BATCH_SIZE = 8
PREFERRED_BATCH_SIZES = (4, 8)
# How long a picture waits for company before a network runs. Each network adds it to the latency
# of a lone picture; when many are in flight, batches fill while the batch before them runs.
MAX_QUEUE_DELAY_US = 500


def build_repository(
    releases: Sequence[Path], out: Path, *, target: Target = "cpu", threads: int = 1
) -> Path:
    """Make `out` the model repository of exactly these releases; returns `out`.

    `threads`: cores that one batch of one network may use. Raises ReleaseError where a release is
    broken, ValueError where two share a name or a version, or the target is not known.
    """
    if target not in get_args(Target):
        raise ValueError(f"cannot build for {target!r}: known targets are {get_args(Target)}")
    loaded = sorted((Release.load(path) for path in releases), key=lambda r: r.version)
    _refuse_clashes(loaded)
    fingerprint = _fingerprint(loaded, target, threads)
    stamp = out / FINGERPRINT
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return out
    staging = out.with_name(f".{out.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _write_configs(loaded, staging, threads)
        for release in loaded:
            _write_versions(release, staging)
        (staging / FINGERPRINT).write_text(fingerprint)
        replace_directory(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out


def _refuse_clashes(releases: Sequence[Release]) -> None:
    if not releases:
        raise ValueError("no release to serve")
    for what, values in (
        ("version", [release.version for release in releases]),
        ("name", [release.name for release in releases]),
    ):
        if clashes := [value for value, times in Counter(values).items() if times > 1]:
            raise ValueError(f"several releases have the {what} {clashes[0]}")


def _fingerprint(releases: Sequence[Release], target: Target, threads: int) -> str:
    """A hash of everything that the repository is made from."""
    sources = [*sorted(TEMPLATES.rglob("*")), *DECODING, Path(__file__)]
    parts = [
        *(release.digest for release in releases),
        *(path.read_text() for path in sources if path.is_file() and path.suffix != ".pyc"),
        target,
        str(threads),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write_configs(releases: Sequence[Release], out: Path, threads: int) -> None:
    shapes = [_logit_shape(release) for release in releases]
    shared = {
        "versions": ", ".join(str(release.version) for release in releases),
        "max_batch_size": MAX_BATCH_SIZE,
        "preferred_batch_sizes": ", ".join(map(str, PREFERRED_BATCH_SIZES)),
        "max_queue_delay_us": MAX_QUEUE_DELAY_US,
        "threads": threads,
        "image_sizes": sorted({release.manifest.image_size for release in releases}),
        "logit_shapes": [dict(shape) for shape in sorted({tuple(s.items()) for s in shapes})],
    }
    for model in ("segmentation", "translocator", "geodecode"):
        _render(model, out / model, shared)
    for release, shape in zip(releases, shapes, strict=True):
        values = {"release": release, "size": release.manifest.image_size, "shape": shape}
        for name in (release.ensemble, release.inspection):
            own = {"name": name, "inspect": name == release.inspection}
            _render("ensemble", out / name, shared | values | own)
            (out / name / "1").mkdir()


def _logit_shape(release: Release) -> dict[str, int]:
    config = release.manifest.locator.config
    return {key: config[key] for key in ("crops", "coarse", "middle", "fine", "scenes")}


def _render(template: str, directory: Path, values: Mapping[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    directory.mkdir()
    text = environment.get_template(f"{template}/config.pbtxt").render(values)
    (directory / "config.pbtxt").write_text(text)


def _write_versions(release: Release, out: Path) -> None:
    """Add the release's version to each of the three models."""
    for model in ("segmentation", "translocator"):
        version = out / model / str(release.version)
        version.mkdir()
        shutil.copyfile(TEMPLATES / "onnx_model.py", version / "model.py")
        shutil.copyfile(release.file(f"{model}.onnx"), version / "model.onnx")
    version = out / "geodecode" / str(release.version)
    version.mkdir()
    shutil.copyfile(TEMPLATES / "geodecode" / "model.py", version / "model.py")
    package = version / Path(__file__).parent.name
    package.mkdir()
    for source in DECODING:
        shutil.copyfile(source, package / source.name)
    release.decoder.save(version / "decoder.npz")
    (version / "digest").write_text(release.digest)
