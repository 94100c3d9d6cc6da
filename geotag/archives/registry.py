"""`geotag archive`: registering what may be read; and our own bucket, which the program registers.

What is asked for by a URL belongs to the registered archive that covers it, or is refused.
"""

import re
import sys
from urllib.parse import unquote, urlsplit

from rich.table import Table

from db import archives
from db.archives import (
    ArchiveConflict,
    ArchiveRecord,
    ArchiveUnknown,
    Counts,
    RegisteredArchive,
)
from geotag.context import Context
from geotag.formats import ListFormat
from geotag.output import console, plain, write_csv, write_json
from geotag.tables import Column, key_column, number_column, print_table
from workers.errors import UsageError
from workers.planning.sources import archive_of
from workers.s3.endpoints import check_endpoint
from workers.s3.service import parse_s3_url

AWS = "aws"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def record_of(
    context: Context,
    name: str,
    url: str,
    *,
    endpoint: str | None,
    region: str | None,
    profile: str | None,
    role: str | None,
    credentials: str | None,
    include: list[str],
    exclude: list[str],
    allow_private: bool,
) -> ArchiveRecord:
    """What `geotag archive add` was told, in full.

    Raises:
        UsageError: it cannot be; EndpointRefused, ArchiveUnavailable: its endpoint may not be used.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name: letters, digits, '.', '_' and '-', 63 at most")
    bucket, prefix = parse_s3_url(url)
    ours = context.settings.worker.s3_endpoint or ""
    where = _endpoint(endpoint, ours)
    if where and where != ours:
        check_endpoint(where, allow_private=allow_private)
    return ArchiveRecord(
        name=name,
        endpoint=where,
        bucket=bucket,
        prefix=prefix,
        region=region,
        credentials=_reference(
            profile, role, credentials, default="settings" if where == ours else "chain"
        ),
        include=tuple(include),
        exclude=tuple(exclude),
        # Whoever set GEOTAG_S3_ENDPOINT meant its address.
        allow_private=allow_private or (where == ours and bool(where)),
    )


def _endpoint(endpoint: str | None, ours: str) -> str:
    if endpoint is None:
        return ours
    return "" if endpoint == AWS else endpoint.rstrip("/")


def _reference(
    profile: str | None, role: str | None, credentials: str | None, *, default: str
) -> str:
    given = [
        *([f"profile:{profile}"] if profile else []),
        *([f"role:{role}"] if role else []),
        *([credentials] if credentials else []),
    ]
    if len(given) > 1:
        raise UsageError("one credential at most: --profile, --role or --credentials")
    reference = given[0] if given else default
    kind, _colon, value = reference.partition(":")
    if reference not in ("settings", "chain") and (
        kind not in ("profile", "role", "env") or not value
    ):
        raise UsageError(
            "--credentials takes a reference, never a secret: settings, chain, profile:NAME,"
            " role:ARN or env:PREFIX (PREFIX_ACCESS_KEY_ID, PREFIX_SECRET_ACCESS_KEY)"
        )
    if kind == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise UsageError(f"{value!r} cannot begin the name of an environment variable")
    return reference


def add(context: Context, record: ArchiveRecord) -> RegisteredArchive:
    """Register an archive.

    Raises:
        UsageError: its name or its keys are another archive's.
    """
    try:
        return archives.add(context.engine, record)
    except ArchiveConflict as error:
        raise UsageError(str(error)) from None


def named(context: Context, name: str) -> RegisteredArchive:
    """The registered archive of that name.

    Raises:
        UsageError: there is none; the message lists those that there are.
    """
    try:
        return archives.by_name(context.engine, name)
    except ArchiveUnknown:
        known = ", ".join(a.name for a in archives.registered(context.engine)) or "none yet"
        raise UsageError(f"no archive {name!r} is registered (registered: {known})") from None


def own(context: Context) -> RegisteredArchive:
    """The archive of our own bucket, where local files go; registered where it is not yet."""
    endpoint = context.settings.worker.s3_endpoint or ""
    bucket = context.settings.command.bucket
    known = archives.registered(context.engine, removed=True)
    for archive in known:
        if (archive.endpoint, archive.bucket, archive.prefix) == (endpoint, bucket, ""):
            return add(context, archive) if archive.removed_at else archive
    free = bucket not in {archive.name for archive in known}
    name = bucket if free else f"{bucket}-{urlsplit(endpoint).netloc.replace(':', '-')}"
    return add(context, ArchiveRecord(name, endpoint, bucket, allow_private=bool(endpoint)))


def of_url(context: Context, url: str) -> tuple[RegisteredArchive, str]:
    """The registered archive that a URL lies in, and its key or prefix there.

    Args:
        context: settings and clients.
        url: `s3://bucket/key`, or path-style `https://endpoint/bucket/key` (its query is not used).

    Raises:
        UsageError: it is no such URL, or lies in no registered archive, or in one that is paused.
    """
    registered = archives.registered(context.engine)
    if url.startswith("s3://"):
        bucket, key = parse_s3_url(url)
        return archive_of(registered, bucket, key), key
    asked = urlsplit(url)
    bucket, _slash, key = asked.path.removeprefix("/").partition("/")
    endpoint = f"{asked.scheme}://{asked.netloc}"
    there = [archive for archive in registered if archive.endpoint == endpoint]
    if not there:
        raise UsageError(
            f"{asked.scheme}://{asked.hostname} is no registered S3 endpoint (geotag archive list);"
            " download the picture and give its file name"
        )
    if not bucket or not key:
        raise UsageError("the URL names no object: it should read https://endpoint/bucket/key")
    return archive_of(there, bucket, unquote(key)), unquote(key)


def print_list(context: Context, form: ListFormat, *, removed: bool, wide: bool = False) -> None:
    """Print the archives with how many objects they have."""
    found = [
        (archive, archives.counts(context.engine, archive.id))
        for archive in archives.registered(context.engine, removed=removed)
    ]
    if form is not ListFormat.TABLE:
        _write([_document(*pair) for pair in found], form)
        return
    columns = (
        Column("archive"),
        key_column("where"),
        Column("state"),
        *map(number_column, ("objects", "pending", "failed")),
    )
    rows = [
        (
            archive.name,
            archive.url,
            state_of(archive),
            f"{count.objects:,}",
            f"{count.pending:,}",
            f"{count.failed:,}",
        )
        for archive, count in found
    ]
    print_table(columns, rows, wide=wide)
    if not found:
        console.print("none yet: geotag archive add NAME s3://bucket/prefix", markup=False)


def print_one(context: Context, archive: RegisteredArchive, form: ListFormat) -> None:
    """Print everything that is known of an archive."""
    document = _document(archive, archives.counts(context.engine, archive.id))
    if form is not ListFormat.TABLE:
        _write([document], form)
        return
    facts = Table.grid(padding=(0, 2))
    for name, value in document.items():
        facts.add_row(name, plain("–" if value in (None, "") else str(value)))
    console.print(facts)


def state_of(archive: RegisteredArchive) -> str:
    """`registered`, `paused` or `removed`."""
    if archive.removed_at:
        return "removed"
    return "paused" if archive.paused_at else "registered"


def _write(documents: list[dict[str, object]], form: ListFormat) -> None:
    if form is ListFormat.JSON:
        write_json(documents, sys.stdout)
    else:
        write_csv(documents, documents[0] if documents else ("name",), sys.stdout)


def _document(archive: RegisteredArchive, count: Counts) -> dict[str, object]:
    return {
        "name": archive.name,
        "url": archive.url,
        "endpoint": archive.endpoint or AWS,
        "region": archive.region,
        "credentials": archive.credentials,
        "include": " ".join(archive.include),
        "exclude": " ".join(archive.exclude),
        "allow_private": archive.allow_private,
        "state": state_of(archive),
        "objects": count.objects,
        "pending": count.pending,
        "failed": count.failed,
        "vanished": count.vanished,
        "last_planned_at": count.last_listed_at and count.last_listed_at.isoformat(),
        "registered_at": archive.registered_at and archive.registered_at.isoformat(),
    }
