"""Register, activate, serve and unload releases.

Shipped releases are in the package, registered ones in the data folder. The local Triton's model
repository contains the active release, the one before it, and those of unfinished runs and
schedules. A restarted Triton serves them all.
"""

import getpass
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from db.releases import (
    BY_UP,
    CellRow,
    PartitionRow,
    activate_release,
    activation,
    activations,
    active_release,
    register_release,
    registered_releases,
    release_before,
)
from deploy import model_control
from deploy.errors import StackError
from geotag.context import Context
from geotag.output import errors
from geotag.settings import Settings
from triton_models.release.build import build, built, remove
from triton_models.release.release import RELEASES, Release, ReleaseError, replace_directory
from workers.chunks.triton_client import TritonClient
from workers.errors import GeotagError, ReleaseNotServed, UsageError

Report = Callable[[str], None]


def say(line: str) -> None:
    """Print a line to standard error."""
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def repository(settings: Settings) -> Path:
    """Return the model repository of the local Triton."""
    return settings.stack.data_dir / "models"


def directories(settings: Settings) -> dict[str, Path]:
    """Return the directories of the releases on this machine, by name."""
    own = settings.stack.data_dir / "releases"
    manifests = [*RELEASES.glob("*/release.json"), *own.glob("*/release.json")]
    return {path.parent.name: path.parent for path in manifests}


def find(settings: Settings, name: str) -> Release:
    """Return the release of a name or in a directory.

    Raises:
        UsageError: there is none.
        ReleaseError: it is damaged.
    """
    known = directories(settings)
    if name in known:
        return Release.load(known[name])
    if Path(name, "release.json").is_file():
        return Release.load(Path(name))
    raise UsageError(
        f"no release {name} on this machine: give one of {', '.join(sorted(known))}, or a directory"
    )


def register(context: Context, directory: Path) -> Release:
    """Check a release, keep a copy of it in the data folder, and record it in the ledger.

    Raises:
        ReleaseError: it is incomplete or inconsistent, or has a shipped release's name.
        ReleaseNameTaken: the ledger has another release of this name.
    """
    release = Release.load(directory)
    kept = directories(context.settings).get(release.name)
    if kept is not None and kept.parent == RELEASES:
        if Release.load(kept).digest != release.digest:
            raise ReleaseError(
                f"{release.name} is the name of a different release, which ships with geotag"
            )
        record(context, release)
        return release
    record(context, release)
    kept = context.settings.stack.data_dir / "releases" / release.name
    if directory.resolve() != kept.resolve():
        staging = kept.with_name(f".{release.name}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(directory, staging)
        replace_directory(staging, kept)
    return Release.load(kept)


def record(context: Context, release: Release) -> None:
    """Write a release and its cells into the ledger, unless they are recorded."""
    manifest = release.manifest
    register_release(
        context.engine,
        name=release.name,
        digest=release.digest,
        calibrated=release.calibrated,
        manifest={
            "version": release.version,
            "crops": manifest.crops,
            "fit": manifest.fit,
            "image_size": manifest.image_size,
            "segmentation_sha256": manifest.segmentation.sha256,
            "locator_sha256": manifest.locator.sha256,
            "provenance": dict(manifest.provenance),
        },
        cells=(CellRow(**row) for row in release.cells().to_pylist()),
        partitions=(PartitionRow(**row) for row in release.partitions().to_pylist()),
    )


def activate(context: Context, name: str, report: Report = say) -> tuple[str | None, str]:
    """Make a release the one that new runs use, after checking that Triton serves it.

    Unfinished runs keep their release. A release that Triton fails to unload is reported; the
    activation remains valid.

    Returns:
        The previously active release, if any, and the digest of the new one.

    Raises:
        UsageError: no such release is registered or on this machine.
        ReleaseNotServed: Triton serves a different release under this name.
        ModelNotLoaded: Triton cannot load it.
    """
    with activation(context.engine):
        return _activate(context, name, report)


def _activate(context: Context, name: str, report: Report) -> tuple[str | None, str]:
    """Activate a release. The caller has the lock `db.releases.activation`."""
    if name in directories(context.settings):
        record(context, find(context.settings, name))
    digests = {release.name: release.digest for release in registered_releases(context.engine)}
    if name not in digests:
        raise UsageError(f"no release {name} is registered: geotag releases register DIRECTORY")
    before = active_release(context.engine)
    serve(context, name, digests[name])
    if before is None or before[0] != name:
        activate_release(context.engine, name, by=f"{getpass.getuser()}@{socket.gethostname()}")
    retire(context, report)
    return before[0] if before else None, digests[name]


def rollback(context: Context, report: Report = say) -> tuple[str | None, str, str]:
    """Activate the release that was active before. A second rollback undoes the first.

    Returns:
        The previously active release, if any, and the name and digest of the new one.

    Raises:
        UsageError: no other release was ever active.
    """
    with activation(context.engine):
        name = release_before(context.engine)
        if name is None:
            raise UsageError("no other release was active before: geotag releases activate NAME")
        before, digest = _activate(context, name, report)
        return before, name, digest


def serve(context: Context, name: str, digest: str) -> None:
    """Make Triton serve a release, and check that its digest is the ledger's.

    Raises:
        ReleaseNotServed: Triton serves a different release under this name.
        InferenceUnavailable, InferenceTimeout: Triton does not answer.
        ModelNotLoaded: Triton cannot load it.
    """
    with closing(TritonClient(context.settings.worker, name, digest)) as locator:
        try:
            _probe(locator)
        except ReleaseNotServed:
            if context.settings.stack.triton_url is None:
                build(find(context.settings, name), repository(context.settings))
            model_control.load(context.settings.worker.triton_url, f"geotag_{name}")
            _probe(locator)


def _probe(locator: TritonClient) -> None:
    """Infer a blank picture: Triton reports a model as ready even if its process has died."""
    spec = locator.served().spec
    locator.locate(np.zeros((spec.height, spec.width, 3), np.uint8))


def retire(context: Context, report: Report = say) -> None:
    """Unload the releases that are no longer needed, and delete them from the local repository.

    A release that Triton fails to unload is reported and stays until the next call.
    """
    if context.settings.stack.triton_url is not None:
        return  # not our server: its operator decides what it serves
    wanted = needed(context)
    for name in built(repository(context.settings)):
        if name in wanted:
            continue
        try:
            for ensemble in (f"inspect_{name}", f"geotag_{name}"):
                model_control.unload(context.settings.worker.triton_url, ensemble)
        except StackError as error:
            report(f"release {name} stays loaded until the next activation: {error}")
        else:
            remove(name, repository(context.settings))


def needed(context: Context) -> dict[str, str]:
    """Return the digests of the releases that must be served, by name.

    These are the active one, the one before it (a run may just have begun with it), and those of
    unfinished runs and schedules.
    """
    before = release_before(context.engine)
    return {
        release.name: release.digest
        for release in registered_releases(context.engine)
        if release.active or release.runs or release.scheduled or release.name == before
    }


def build_known(settings: Settings) -> bool:
    """Build the settings' release and the served ones; return whether a served one changed."""
    folder = repository(settings)
    before = built(folder)
    known = directories(settings)
    changed = [name for name in before if name in known and build(find(settings, name), folder)]
    build(find(settings, settings.command.release), folder)
    return bool(changed)


def settle(context: Context, report: Report) -> None:
    """Activate the settings' release unless a user activated another, and serve what is needed.

    Raises the errors of `activate`. A release that cannot be served for older runs is reported.
    """
    release = find(context.settings, context.settings.command.release)
    with activation(context.engine):
        record(context, release)
        active, history = active_release(context.engine), activations(context.engine)
        if active is None or (active[0] != release.name and history[0].by == BY_UP):
            serve(context, release.name, release.digest)
            activate_release(context.engine, release.name)
        elif active[0] != release.name:
            report(
                f"the active release is {active[0]}, activated by {history[0].by}, not"
                f" {release.name} (GEOTAG_RELEASE): geotag releases activate {release.name}"
            )
        for name, digest in needed(context).items():
            try:
                serve(context, name, digest)
            except (GeotagError, StackError) as error:
                report(f"release {name} is needed but cannot be served: {error}")
        retire(context, report)
