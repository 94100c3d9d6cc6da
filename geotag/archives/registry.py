"""Register archives, resolve URLs to registered archives, and print archives.

A URL outside every registered archive is refused. The program registers its upload bucket itself.
"""

import re
import sys
from urllib.parse import unquote, urlsplit

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
from geotag.output import console, write_csv, write_json
from geotag.tables import (
    Column,
    Fact,
    Shorten,
    key_column,
    number_column,
    print_facts,
    print_table,
)
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
    """Return the archive record that the options of `geotag archive add` describe.

    Raises:
        UsageError: an option is invalid, or two of them contradict each other.
        EndpointRefused, ArchiveUnavailable: the endpoint may not be used.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name: use letters, digits, '.', '_' and '-', at most 63"
        )
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
        # The operator chose the address of GEOTAG_S3_ENDPOINT: it needs no --allow-private.
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
        raise UsageError("give at most one of --profile, --role and --credentials")
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
        raise UsageError(
            f"--credentials env:PREFIX: {value!r} is not a valid prefix of an environment variable"
        )
    return reference


def add(context: Context, record: ArchiveRecord) -> RegisteredArchive:
    """Register an archive.

    Raises:
        UsageError: another archive has its name or some of its keys.
    """
    try:
        return archives.add(context.engine, record)
    except ArchiveConflict as error:
        raise UsageError(str(error)) from None


def named(context: Context, name: str) -> RegisteredArchive:
    """Return the registered archive of a name.

    Raises:
        UsageError: no archive has this name; the message lists the registered ones.
    """
    try:
        return archives.by_name(context.engine, name)
    except ArchiveUnknown:
        known = ", ".join(a.name for a in archives.registered(context.engine)) or "none yet"
        raise UsageError(f"no archive {name!r} is registered (registered: {known})") from None


def own(context: Context) -> RegisteredArchive:
    """Return the archive of the bucket for uploads; register or restore it if necessary."""
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
    """Return the registered archive that contains a URL, and the URL's key or prefix.

    Args:
        context: settings and clients.
        url: `s3://bucket/key`, or path-style `https://endpoint/bucket/key`; a query is ignored.

    Raises:
        UsageError: the URL is invalid, in no registered archive, or in a paused one.
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
            f"no registered archive has the endpoint {asked.scheme}://{asked.hostname}"
            " (geotag archive list); download the picture and give its file name"
        )
    if not bucket or not key:
        raise UsageError("the URL has no bucket or no key: give https://endpoint/bucket/key")
    return archive_of(there, bucket, unquote(key)), unquote(key)


def print_list(context: Context, form: ListFormat, *, removed: bool, wide: bool = False) -> None:
    """Print the registered archives with their counts of objects."""
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
        console.print(
            "no archive is registered: geotag archive add NAME s3://bucket/prefix", markup=False
        )


def print_one(
    context: Context, archive: RegisteredArchive, form: ListFormat, *, wide: bool = False
) -> None:
    """Print an archive's settings, state and counts."""
    document = _document(archive, archives.counts(context.engine, archive.id))
    if form is not ListFormat.TABLE:
        _write([document], form)
        return
    facts = (
        Fact(name, "–" if value in (None, "") else str(value), Shorten.MIDDLE)
        for name, value in document.items()
    )
    print_facts(facts, wide=wide)


def state_of(archive: RegisteredArchive) -> str:
    """Return `registered`, `paused` or `removed`."""
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
