"""Build Triton's model repository from releases.

Each release has its own models, so that loading or unloading one release does not affect another.
Triton would reload models that releases shared with each of them (docs/releases.md):

    segmentation_NAME/   config.pbtxt   VERSION/ model.py model.onnx
    translocator_NAME/   config.pbtxt   VERSION/ model.py model.onnx
    geodecode_NAME/      config.pbtxt   VERSION/ model.py decoder.npz digest triton_models/
    inspect_NAME/        config.pbtxt   1/      answers, class map and logits, for tests
    geotag_NAME/         config.pbtxt   1/      answers, for workers             fingerprint

The models depend on the release, the templates in `repository/` and the target. Their fingerprint
is stored with them, so that building again changes nothing.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2

from triton_models.release.release import Release

# "cpu": the networks run on ONNX Runtime in the Python backend. "gpu": they run on CUDA in the
# onnxruntime backend of NVIDIA's container. "tensorrt": the same, with TensorRT for the parts that
# it supports. The decoder runs in the Python backend for every target.
Target = Literal["cpu", "gpu", "tensorrt"]

_PACKAGE = Path(__file__).parents[1]
TEMPLATES = _PACKAGE / "repository"
# The modules that geodecode runs, relative to the package. They need NumPy only.
DECODING = (
    "__init__.py",
    *(f"answer/{path.name}" for path in sorted((_PACKAGE / "answer").glob("*.py"))),
)
STEPS = ("segmentation", "translocator", "geodecode")
FINGERPRINT = "fingerprint"

MAX_BATCH_SIZE = 8
PREFERRED_BATCH_SIZES = (4, 8)
# How long Triton waits to fill a batch. Each network adds this to the latency of a single picture.
# Under load, batches fill while the batch before them runs.
MAX_QUEUE_DELAY_US = 500


def build(release: Release, repository: Path, *, target: Target = "cpu", threads: int = 1) -> bool:
    """Write a release's models into a repository; return whether anything had to be written.

    The models of other releases stay as they are. `threads`: cores that one batch of one network
    may use on a CPU. Raises ValueError where the target is not known.
    """
    if target not in get_args(Target):
        raise ValueError(f"cannot build for {target!r}: known targets are {get_args(Target)}")
    fingerprint = _fingerprint(release, target, threads)
    with _locked(repository):
        if built_as(release.name, repository) == fingerprint:
            return False
        staging = repository.with_name(f".{repository.name}.{release.name}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            _write_configs(release, staging, target, threads)
            _write_versions(release, staging, target)
            (staging / release.ensemble / FINGERPRINT).write_text(fingerprint)
            # The ensemble is moved last, because its fingerprint marks the release as complete.
            for model in sorted(staging.iterdir(), key=lambda path: path.name == release.ensemble):
                old = repository / model.name
                if old.exists():
                    old.rename(staging / f"old_{model.name}")
                model.rename(old)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return True


def built_as(name: str, repository: Path) -> str | None:
    """Return the fingerprint of a release's models in a repository; None where there are none."""
    stamp = repository / f"geotag_{name}" / FINGERPRINT
    return stamp.read_text() if stamp.is_file() else None


def built(repository: Path) -> list[str]:
    """Return the names of the releases in a repository."""
    stamps = repository.glob(f"geotag_*/{FINGERPRINT}")
    return sorted(stamp.parent.name.removeprefix("geotag_") for stamp in stamps)


def remove(name: str, repository: Path) -> None:
    """Delete a release's models from a repository. A server that has loaded them keeps them."""
    with _locked(repository):
        for kind in ("geotag", "inspect", *STEPS):
            shutil.rmtree(repository / f"{kind}_{name}", ignore_errors=True)


@contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """Hold the repository's file lock. The kernel releases it when the process ends."""
    repository.mkdir(parents=True, exist_ok=True)
    with repository.with_name(f".{repository.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fingerprint(release: Release, target: Target, threads: int) -> str:
    """Return a hash of everything that the models are made from."""
    sources = [
        *sorted(TEMPLATES.rglob("*")),
        *(_PACKAGE / name for name in DECODING),
        Path(__file__),
    ]
    parts = [
        release.digest,
        *(path.read_text() for path in sources if path.is_file() and path.suffix != ".pyc"),
        target,
        str(threads),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write_configs(release: Release, out: Path, target: Target, threads: int) -> None:
    manifest = release.manifest
    heads = {"COARSE": "coarse", "MIDDLE": "middle", "FINE": "fine", "SCENE": "scenes"}
    values = {
        "release": release,
        "version": release.version,
        "size": manifest.image_size,
        "crops": manifest.crops,
        "logits": {f"{name}_LOGITS": manifest.locator.config[key] for name, key in heads.items()},
        "target": target,
        "threads": threads,
        "max_batch_size": MAX_BATCH_SIZE,
        "preferred_batch_sizes": ", ".join(map(str, PREFERRED_BATCH_SIZES)),
        "max_queue_delay_us": MAX_QUEUE_DELAY_US,
        **{step: f"{step}_{release.name}" for step in STEPS},
    }
    for step in STEPS:
        _render(step, out / f"{step}_{release.name}", values)
    for name in (release.ensemble, release.inspection):
        own = {"ensemble": name, "inspect": name == release.inspection}
        _render("ensemble", out / name, values | own)
        (out / name / "1").mkdir()


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


def _write_versions(release: Release, out: Path, target: Target) -> None:
    """Write the version directories of the three steps: networks, code and decoder."""
    for step in ("segmentation", "translocator"):
        version = out / f"{step}_{release.name}" / str(release.version)
        version.mkdir()
        shutil.copyfile(release.file(f"{step}.onnx"), version / "model.onnx")
        if target == "cpu":
            shutil.copyfile(TEMPLATES / "onnx_model.py", version / "model.py")
    version = out / f"geodecode_{release.name}" / str(release.version)
    version.mkdir()
    shutil.copyfile(TEMPLATES / "geodecode" / "model.py", version / "model.py")
    package = version / _PACKAGE.name
    (package / "answer").mkdir(parents=True)
    for name in DECODING:
        shutil.copyfile(_PACKAGE / name, package / name)
    release.decoder.save(version / "decoder.npz")
    (version / "digest").write_text(release.digest)
