"""`geotag run` and `geotag locate`: from what the user names to a finished run."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

from db.reads import RunProgress
from geotag.context import Context
from geotag.output import errors
from geotag.watch import watch
from workers.app import BACKFILL, INTERACTIVE
from workers.archive import parse_s3_url, s3_url
from workers.backfill import Planned
from workers.errors import UsageError
from workers.sources import (
    Found,
    from_manifest,
    from_prefix,
    key_of,
    read_file,
    upload_folder,
)


@dataclass(frozen=True)
class Job:
    """What a run is over: its name in the ledger, and the pages to plan."""

    source: str
    pages: Iterator[Found]


def job_of(context: Context, source: str) -> Job:
    """The job that a source names: `s3://bucket/prefix`, a manifest file, or a folder.

    Raises:
        UsageError: it is none of these.
        DatabaseUrlMissing: no stack is known.
    """
    _require_stack(context)
    archive = context.archive
    if source.startswith("s3://"):
        bucket, prefix = parse_s3_url(source)
        return Job(source, from_prefix(archive, bucket, prefix))
    path = Path(source)
    if path.is_dir():
        bucket = context.settings.command.bucket

        def report(done: int, total: int) -> None:
            if done == total or done % 100 == 0:
                errors.print(f"[dim]{done} of {total} files are in s3://{bucket}/[/dim]")

        prefix = upload_folder(archive, bucket, path, report=report)
        return Job(s3_url(bucket, prefix), from_prefix(archive, bucket, prefix))
    if path.is_file() and path.suffix.lower() in (".csv", ".parquet"):
        return Job(f"manifest {key_of(path.resolve())}", from_manifest(archive, path))
    if path.is_file():
        raise UsageError(
            f"{source} is neither a folder nor a manifest (.csv, .parquet);"
            " for one picture: geotag locate"
        )
    raise UsageError(f"{source}: no such folder, manifest or s3:// URL")


def _require_stack(context: Context) -> None:
    """Raise DatabaseUrlMissing where no stack is known.

    Without an endpoint S3 means AWS, and the user's pictures would go there with the credential of
    their own profile before anybody noticed that there is no ledger.
    """
    _ = context.engine


def run(context: Context, job: Job, *, wait: bool = True) -> tuple[RunProgress | None, float]:
    """Plan a job on the backfill queue and, if asked to wait, watch it to its end.

    Returns:
        The finished run's progress (None without waiting) and the seconds from the first message.
    """
    started = time.monotonic()

    def said(planned: Planned) -> None:
        if planned.listed and planned.listed % 10_000 == 0:
            errors.print(f"[dim]{planned.listed} listed, {planned.published} queued[/dim]")

    try:
        planned = context.planner().plan(job.source, BACKFILL, job.pages, report=said)
        if not wait:
            errors.print(f"run {planned.run_id}: {planned.published} objects queued; geotag status")
            return None, 0.0
        return watch(context, planned.run_id), time.monotonic() - started
    except KeyboardInterrupt:
        errors.print(
            "what is queued goes on without you: geotag status; the same command again takes the"
            " run up where it is"
        )
        raise


def locate(context: Context, what: str) -> tuple[RunProgress, str, str]:
    """Geotag one picture now, through the queue that no backfill delays.

    Args:
        context: settings and clients.
        what: a file (uploaded first), an `s3://` URL, or an `https://` URL of the S3 endpoint.

    Returns:
        The finished run's progress, and the picture's bucket and key.

    Raises:
        UsageError: it names no picture.
        DatabaseUrlMissing: no stack is known.
    """
    _require_stack(context)
    bucket, key = _one_object(context, what)
    obj = context.archive.head(bucket, key)
    pages = iter([Found((obj,), 0)])
    planned = context.planner().plan(s3_url(bucket, key), INTERACTIVE, pages)
    return watch(context, planned.run_id), bucket, key


def _one_object(context: Context, what: str) -> tuple[str, str]:
    if what.startswith("s3://"):
        bucket, key = parse_s3_url(what)
        if not key:
            raise UsageError(f"{what} names no object; for all of a bucket: geotag run")
        return bucket, key
    if what.startswith(("https://", "http://")):
        return _of_endpoint(context.settings.worker.s3_endpoint, what)
    path = Path(what)
    if not path.is_file():
        raise UsageError(f"{what}: no such file")
    data = read_file(path)
    # By content, so that the same picture asked for twice is the same object.
    key = f"located/{sha256(data).hexdigest()[:16]}/{key_of(PurePath(path.name))}"
    bucket = context.settings.command.bucket
    context.archive.ensure_bucket(bucket)
    context.archive.upload(bucket, key, data)
    return bucket, key


def _of_endpoint(endpoint: str | None, url: str) -> tuple[str, str]:
    """Bucket and key of a path-style URL at the registered endpoint; its query is not used.

    Only registered endpoints are ever fetched from: a URL of another host is refused, not followed.
    """
    asked, ours = urlsplit(url), urlsplit(endpoint or "")
    if not endpoint or (asked.scheme, asked.netloc) != (ours.scheme, ours.netloc):
        raise UsageError(
            f"{asked.scheme}://{asked.hostname} is not the registered S3 endpoint"
            " (GEOTAG_S3_ENDPOINT); download the picture and give its file name"
        )
    bucket, _slash, key = asked.path.removeprefix("/").partition("/")
    if not bucket or not key:
        raise UsageError("the URL names no object: it should read https://endpoint/bucket/key")
    return bucket, unquote(key)
