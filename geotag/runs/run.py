"""`geotag run` and `geotag locate`: plan a source that the user names, and watch its run."""

import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePath

from db import archives
from db.archives import RegisteredArchive
from db.planning import ListedPage
from db.reads import RunProgress, run_progress
from db.runs import PlannedElsewhere, RunStopped
from geotag.archives import registry
from geotag.context import Context
from geotag.output import errors
from geotag.runs.status import warns_of
from geotag.runs.watch import watch
from workers.broker.app import BACKFILL, INTERACTIVE
from workers.broker.publisher import Publisher
from workers.errors import UsageError
from workers.planning.inventory import INVENTORY, PARTIAL, inventory
from workers.planning.manifests import manifest
from workers.planning.planner import Planned
from workers.planning.sources import Source, archive_of, as_listed, check_key, listing
from workers.planning.uploads import key_of, read_file, upload_folder
from workers.s3.service import parse_s3_url, s3_url

_REPORT_OBJECTS = 10_000
_REPORT_SECONDS = 10.0


def source_of(
    context: Context, what: str, *, inventory_url: str | None = None, partial: bool = False
) -> Source:
    """Return a run's source: an archive's name, `s3://bucket/prefix`, a manifest file, or a folder.

    Reads its first page, so that a source that cannot be read leaves no run behind.

    Args:
        context: settings and clients.
        what: the name, URL or path. A folder is uploaded first.
        inventory_url: the manifest.json to read instead of listing the archive.
        partial: the inventory does not cover all of the archive.

    Raises:
        UsageError: `what` is none of these, or in no registered archive.
        DatabaseUrlMissing: no stack is known.
    """
    _require_stack(context)
    path = Path(what)
    if inventory_url is not None:
        return _inventory(context, what, inventory_url, partial=partial)
    if what.startswith("s3://"):
        archive, prefix = registry.of_url(context, what)
        source = listing(context.s3_services, archive, prefix)
    elif path.is_dir():
        source = _uploaded(context, path)
    elif path.is_file() and path.suffix.lower() in (".csv", ".parquet"):
        return manifest(context.s3_services, archives.registered(context.engine), path)
    elif path.is_file():
        raise UsageError(
            f"{what} is neither a folder nor a manifest (.csv, .parquet);"
            " for one picture: geotag locate"
        )
    else:
        archive = _archive(context, what)
        source = listing(context.s3_services, archive, archive.prefix)
    next(source.pages(None), None)
    return source


def _archive(context: Context, name: str) -> RegisteredArchive:
    found = archives.registered(context.engine)
    if all(archive.name != name for archive in found):
        raise UsageError(
            f"{name}: no such archive (geotag archive list), folder, manifest or s3:// URL"
        )
    archive = registry.named(context, name)
    return archive_of([archive], archive.bucket, archive.prefix)


def _inventory(context: Context, name: str, url: str, *, partial: bool) -> Source:
    parse_s3_url(url)
    archive = _archive(context, name)
    registered = archives.registered(context.engine)
    called = f"{PARTIAL if partial else ''}{INVENTORY.removesuffix('s3://')}{url}"
    return inventory(context.s3_services, registered, archive, called)


def _uploaded(context: Context, folder: Path) -> Source:
    archive = registry.own(context)
    archive_of([archive], archive.bucket, archive.prefix)

    def report(done: int, total: int) -> None:
        if done == total or done % 100 == 0:
            errors.print(f"[dim]{done} of {total} files are in s3://{archive.bucket}/[/dim]")

    prefix = upload_folder(context.s3, archive.bucket, folder, report=report)
    return listing(context.s3_services, archive, prefix)


def _require_stack(context: Context) -> None:
    """Raise DatabaseUrlMissing where no stack is known.

    Without an endpoint, S3 means AWS: the user's pictures would be uploaded there, with the
    credential of the user's profile, before the missing ledger is noticed.
    """
    _ = context.engine


class ListingProgress:
    """Prints a listing's progress, by the objects or seconds since it was last printed."""

    def __init__(self) -> None:
        self._listed = 0
        self._at = time.monotonic()

    def report(self, planned: Planned) -> None:
        """Print the counts if it is time to."""
        now = time.monotonic()
        fresh = planned.listed - self._listed
        if fresh < _REPORT_OBJECTS and not (fresh and now - self._at >= _REPORT_SECONDS):
            return
        self._listed, self._at = planned.listed, now
        errors.print(f"[dim]{planned.listed} listed, {planned.planned} to do[/dim]")


def run(
    context: Context, source: Source, *, wait: bool = True, allow_vanish: bool = False
) -> tuple[RunProgress | None, float]:
    """Plan a source on the backfill queue and, if asked to wait, watch it to its end.

    Args:
        context: settings and clients.
        source: what to plan.
        wait: watch the run to its end.
        allow_vanish: mark all that a complete listing lacks as vanished, however much it is.

    Returns:
        The finished run's progress (None without waiting) and the seconds from the first message.
    """
    started = time.monotonic()
    publisher = context.publisher()

    try:
        run_id = _plan(
            context, source, publisher, report=ListingProgress().report, allow_vanish=allow_vanish
        )
        if not wait:
            errors.print(f"run {run_id} is planned; geotag status")
            _warn(context, run_id)
            return None, 0.0
        ended = watch(context, run_id, meanwhile=publisher.round)
        _warn(context, run_id)
        return ended, time.monotonic() - started
    except KeyboardInterrupt:
        errors.print(
            "queued chunks are still processed: geotag status. The same command again resumes the"
            " run"
        )
        raise


def _plan(
    context: Context,
    source: Source,
    publisher: Publisher,
    queue: str = BACKFILL,
    report: Callable[[Planned], None] = lambda planned: None,
    *,
    allow_vanish: bool = False,
) -> int:
    """Plan a source, unless another process is planning it; return the run's id.

    Raises:
        UsageError: the run was cancelled, or its archive paused or removed, at this moment.
    """
    planner = context.planner()
    if allow_vanish:
        planner = replace(planner, most_vanished=1.0)
    try:
        planned = planner.plan(source, queue, publish=publisher.top_up, report=report)
    except PlannedElsewhere as elsewhere:
        errors.print(f"run {elsewhere.run_id} is being planned by another process already")
        return elsewhere.run_id
    except RunStopped:
        raise UsageError(
            "planning stopped: the run was cancelled, or its archive was paused or removed"
        ) from None
    if planned.vanished:
        errors.print(f"{planned.vanished} objects that were there have vanished")
    return planned.run_id


def _warn(context: Context, run_id: int) -> None:
    """Print what the planning of a run left undone."""
    for progress in run_progress(context.engine, run_id):
        if warning := warns_of(progress):
            errors.print(f"run {run_id}: {warning}", markup=False)


def locate(context: Context, what: str) -> tuple[RunProgress, str, str]:
    """Geotag one picture now, through the queue `interactive`, which no backfill delays.

    Args:
        context: settings and clients.
        what: a file (uploaded first), an `s3://` URL, or an `https://` URL of a registered
            endpoint.

    Returns:
        The finished run's progress, and the picture's bucket and key.

    Raises:
        UsageError: `what` names no picture, or a picture in no registered archive.
        DatabaseUrlMissing: no stack is known.
    """
    _require_stack(context)
    archive, key = _one_object(context, what)
    wrong = check_key(key)
    if wrong:
        raise UsageError(f"{what} has {wrong}")
    obj = context.s3_services.of(archive).head(archive.bucket, key)
    page = ListedPage([as_listed(archive, obj)])
    source = Source(s3_url(archive.bucket, key), archive, lambda _cursor: iter([page]))
    publisher = context.publisher()
    run_id = _plan(context, source, publisher, INTERACTIVE)
    return watch(context, run_id, meanwhile=publisher.round), archive.bucket, key


def _one_object(context: Context, what: str) -> tuple[RegisteredArchive, str]:
    if what.startswith("s3://") and not parse_s3_url(what)[1]:
        raise UsageError(f"{what} names no object; for all of a bucket: geotag run")
    if what.startswith(("s3://", "https://", "http://")):
        return registry.of_url(context, what)
    path = Path(what)
    if not path.is_file():
        raise UsageError(f"{what}: no such file")
    data = read_file(path)
    # By content, so that the same picture asked for twice is the same object.
    key = f"located/{sha256(data).hexdigest()[:16]}/{key_of(PurePath(path.name))}"
    archive = registry.own(context)
    context.s3.ensure_bucket(archive.bucket)
    context.s3.upload(archive.bucket, key, data)
    return archive, key
