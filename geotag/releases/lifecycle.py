"""Releases at hand, in the ledger and in Triton: which are served, and which one answers.

A release lies in the package (those that ship) or in the data folder (those that were registered).
Triton's repository holds those that are wanted now, so that a Triton that starts anew serves them
too: the active release, the one before it, and those of unfinished runs and of schedules.
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
    """Report on standard error."""
    errors.print(line, markup=False, highlight=False, soft_wrap=True)


def repository(settings: Settings) -> Path:
    """The folder that the local Triton serves."""
    return settings.stack.data_dir / "models"


def directories(settings: Settings) -> dict[str, Path]:
    """Where each release lies that is at hand, by its name."""
    own = settings.stack.data_dir / "releases"
    manifests = [*RELEASES.glob("*/release.json"), *own.glob("*/release.json")]
    return {path.parent.name: path.parent for path in manifests}


def find(settings: Settings, name: str) -> Release:
    """The release of that name, or in that directory.

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
        f"no release {name} is at hand: {', '.join(sorted(known))}, or the directory of another one"
    )


def register(context: Context, directory: Path) -> Release:
    """Check a release, keep a copy of it in the data folder, and record it in the ledger.

    Raises:
        ReleaseError: it is no whole, consistent release, or has a shipped release's name.
        ReleaseNameTaken: the ledger has another release of this name.
    """
    release = Release.load(directory)
    kept = directories(context.settings).get(release.name)
    if kept is not None and kept.parent == RELEASES:
        if Release.load(kept).digest != release.digest:
            raise ReleaseError(f"{release.name} is the name of another release, which ships")
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
    """Write a release and its cells into the ledger, if they are not there."""
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
    """Make a release the one that new runs ask for, once Triton has answered for it.

    Runs that are under way end with the release that they began with. What Triton does not unload
    is reported: the activation stands.

    Returns:
        The release that was active before, if any, and the new one's digest.

    Raises:
        UsageError: no such release is registered or at hand.
        ReleaseNotServed: Triton answers as another release.
        ModelNotLoaded: Triton cannot load it.
    """
    with activation(context.engine):
        return _activate(context, name, report)


def _activate(context: Context, name: str, report: Report) -> tuple[str | None, str]:
    """The same for who holds the choice of the active release (`db.releases.activation`)."""
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
    """Activate the release that was active before this one; twice is back again.

    Returns:
        As `activate`, with the name of the release that is active now in the middle.

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
    """Have Triton serve a release, and see that it answers as the ledger's.

    Raises:
        ReleaseNotServed, InferenceUnavailable, InferenceTimeout: it does not answer, or as another.
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
    """Ask for a blank picture: Triton calls a model ready whose process has died."""
    spec = locator.served().spec
    locator.locate(np.zeros((spec.height, spec.width, 3), np.uint8))


def retire(context: Context, report: Report = say) -> None:
    """Unload what nobody needs any more, and take it out of the local repository.

    What Triton does not unload is reported and stays: whoever retires next tries again.
    """
    if context.settings.stack.triton_url is not None:
        return  # somebody else's server: what it serves is theirs to say
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
    """Digests by name of the releases that must be served.

    The active one, the one before it (a run may just have begun with it), and those of unfinished
    runs and of schedules.
    """
    before = release_before(context.engine)
    return {
        release.name: release.digest
        for release in registered_releases(context.engine)
        if release.active or release.runs or release.scheduled or release.name == before
    }


def build_known(settings: Settings) -> bool:
    """Build the settings' release and those that are served; whether one of these has changed."""
    folder = repository(settings)
    before = built(folder)
    known = directories(settings)
    changed = [name for name in before if name in known and build(find(settings, name), folder)]
    build(find(settings, settings.command.release), folder)
    return bool(changed)


def settle(context: Context, report: Report) -> None:
    """Make the settings' release active unless somebody chose another, and serve what is needed.

    Raises as `activate`; a release that only older runs need is reported instead.
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
                f"the active release is {active[0]}, as {history[0].by} chose, and not"
                f" {release.name} (GEOTAG_RELEASE): geotag releases activate {release.name}"
            )
        for name, digest in needed(context).items():
            try:
                serve(context, name, digest)
            except (GeotagError, StackError) as error:
                report(f"release {name} is needed and not served: {error}")
        retire(context, report)
