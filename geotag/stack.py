"""Bringing everything up: servers, model repository, schema, releases, workers."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import db
import geotag
import workers
from db import migrate
from db.releases import CellRow, PartitionRow, activate_release, active_release, register_release
from deploy.errors import StackError
from deploy.local import stack
from geotag.context import Context, context
from geotag.settings import Settings
from triton_models.build import FINGERPRINT, build_repository
from triton_models.release import RELEASES, Release

Report = Callable[[str], None]


def up(settings: Settings, report: Report) -> tuple[Context, stack.Stack]:
    """Start what is missing and prepare what is not ready; calling it again changes nothing.

    Raises:
        StackError: a server cannot be started; the error says what to do.
    """
    directory = RELEASES / settings.command.release
    repository = settings.stack.data_dir / "model-repository"
    served = _fingerprint(repository)
    build_repository([directory], repository)
    if served not in (None, _fingerprint(repository)):
        # Triton reads its repository when it starts.
        report("the model repository has changed: Triton starts again")
        with suppress(StackError):
            stack.stop_service(settings.stack, "triton")
    running = stack.up(settings.stack, repository, report=report)
    now = context()  # read again: `up` has written the addresses of what it started
    migrate.upgrade(now.engine)
    register(now, Release.load(directory))
    stack.start_workers(now.settings.stack, code=_code(), report=report)
    return now, running


def _code() -> str:
    """Names the code of the workers: a worker that runs another is started anew."""
    digest = hashlib.sha256()
    for package in (db, workers, geotag):
        for source in sorted(Path(package.__path__[0]).rglob("*")):
            if source.suffix in (".py", ".sql"):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _fingerprint(repository: Path) -> str | None:
    stamp = repository / FINGERPRINT
    return stamp.read_text() if stamp.is_file() else None


def register(now: Context, release: Release) -> None:
    """Record a release in the ledger, and make it active where none is."""
    register_release(
        now.engine,
        name=release.name,
        digest=release.digest,
        calibrated=release.calibrated,
        manifest={"version": release.version, **_manifest(release)},
        cells=(CellRow(**row) for row in release.cells().to_pylist()),
        partitions=(PartitionRow(**row) for row in release.partitions().to_pylist()),
    )
    active = active_release(now.engine)
    if active is None or active[0] != now.settings.command.release == release.name:
        activate_release(now.engine, release.name)


def _manifest(release: Release) -> dict[str, object]:
    manifest = release.manifest
    return {
        "crops": manifest.crops,
        "fit": manifest.fit,
        "image_size": manifest.image_size,
        "segmentation_sha256": manifest.segmentation.sha256,
        "locator_sha256": manifest.locator.sha256,
        "provenance": dict(manifest.provenance),
    }
