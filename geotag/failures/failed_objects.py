"""List failures and start retries: `geotag failures` and `geotag retry`."""

import sys
from dataclasses import asdict
from datetime import date
from typing import Any

import typer
from rich.text import Text

from db.failure_filter import Comparison, FailureFilter, FilterError, Joined, parse
from db.failures import Failure, FailureGroup, Retry, failure_groups, list_failures, retry
from geotag.context import Context
from geotag.failures.advice import advice
from geotag.formats import ListFormat
from geotag.output import console, errors, write_csv, write_json
from geotag.tables import (
    STATE_STYLES,
    Column,
    Row,
    key_column,
    number_column,
    print_table,
    prose_column,
)
from workers.broker.app import BrokerUnavailable
from workers.errors import UsageError
from workers.s3.service import parse_s3_url

GROUP = ("archive", "day", "code", "objects", "example", "message", "at", "advice")
"""Stable field names of a line of `geotag failures` (docs/failures.md)."""


def asked_for(
    *,
    where: str | None = None,
    run: int | None = None,
    url: str | None = None,
    archive: str | None = None,
    since: date | None = None,
) -> FailureFilter | None:
    """Return the conjunction of the given options as a filter; None if none is given.

    Raises:
        UsageError: the filter has a syntax error (a caret shows where), or the URL has no key.
    """
    parts: list[FailureFilter] = []
    if where is not None:
        try:
            parts.append(parse(where))
        except FilterError as error:
            raise UsageError(f"--where: {error}") from error
    if url is not None:
        bucket, key = parse_s3_url(url)
        if not key:
            raise UsageError(f"{url} has no key: give s3://bucket/key")
        parts += [Comparison("bucket", "=", (bucket,)), Comparison("key", "=", (key,))]
    if run is not None:
        parts.append(Comparison("run", "=", (run,)))
    if archive is not None:
        parts.append(Comparison("archive", "=", (archive,)))
    if since is not None:
        parts.append(Comparison("day", ">=", (since,)))
    if len(parts) < 2:
        return parts[0] if parts else None
    return Joined("and", tuple(parts))


def print_counts(
    context: Context,
    by: str,
    asked: FailureFilter | None,
    form: ListFormat,
    *,
    any_release: bool,
    wide: bool = False,
) -> None:
    """Print the failures counted by code, each with its newest object and advice."""
    groups = failure_groups(context.engine, by, asked, any_release=any_release)
    records = [_group_record(group, by) for group in groups]
    if form is ListFormat.JSON:
        write_json(records, sys.stdout)
    elif form is ListFormat.CSV:
        write_csv(records, GROUP, sys.stdout)
    elif not groups:
        console.print("nothing failed")
    else:
        _print_groups(groups, by, wide)
        for code in dict.fromkeys(group.code for group in groups):
            console.print(f"[red]{code}[/red]: {advice(code)}", highlight=False, soft_wrap=True)


def _group_record(group: FailureGroup, by: str) -> dict[str, Any]:
    record = asdict(group) | {"at": group.at.isoformat(), "advice": advice(group.code)}
    part = record.pop("part")
    given = {"archive": None, "day": None} | ({by: part} if by in ("archive", "day") else {})
    record |= given
    return {name: record[name] for name in GROUP}


def _print_groups(groups: list[FailureGroup], by: str, wide: bool) -> None:
    part = [] if by == "code" else [Column(by)]
    columns = [*part, Column("code"), number_column("objects"), key_column("newest")]
    rows = []
    for group in groups:
        line = (Text(group.code, "red"), str(group.objects), group.example, group.message or "")
        rows.append((group.part, *line) if part else line)
    print_table([*columns, prose_column("message")], rows, wide=wide)


def print_keys(
    context: Context,
    asked: FailureFilter | None,
    form: ListFormat,
    *,
    any_release: bool,
    wide: bool = False,
) -> None:
    """Print each failed object. JSON and CSV are streamed; a table is collected in memory."""
    found = list_failures(context.engine, asked, any_release=any_release)
    if form is ListFormat.JSON:
        write_json(map(_record, found), sys.stdout)
    elif form is ListFormat.CSV:
        write_csv(map(_record, found), Failure.__dataclass_fields__, sys.stdout)
    else:
        print_table(_KEYS, map(_key_cells, found), wide=wide)


def _record(failure: Failure) -> dict[str, Any]:
    return asdict(failure) | {"at": failure.at.isoformat()}


_KEYS = (
    key_column("object"),
    Column("state"),
    Column("code"),
    Column("run"),
    Column("retries"),
    prose_column("message"),
)


def _key_cells(row: Failure) -> Row:
    state = Text(row.state, STATE_STYLES[row.state])
    url, message = f"s3://{row.bucket}/{row.key}", row.message or ""
    return url, state, row.code, str(row.run_id), str(row.retries), message


def try_again(context: Context, asked: FailureFilter | None, *, dry_run: bool, yes: bool) -> None:
    """Plan a retry of the matching failures, after confirmation, and publish it.

    Raises:
        UsageError: no filter is given, or confirmation is needed and there is no terminal.
    """
    if asked is None:
        raise UsageError("nothing selected: give --where FILTER, --run N or --key s3://bucket/key")
    found = _retry(context, asked, dry_run=True)
    _say(found, advise=dry_run)
    if dry_run or not found.objects:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "cannot ask for confirmation without a terminal: --yes retries without asking"
            )
        if not typer.confirm(f"retry {found.objects} objects?", err=True):
            return
    done = _retry(context, asked, dry_run=False)
    if done.run_id is None:
        console.print("nothing to retry: a concurrent retry was faster")
        return
    try:
        context.publisher().top_up()
    except BrokerUnavailable as error:
        errors.print(f"{error.message}; the run is planned and starts when the broker is available")
    console.print(
        f"run {done.run_id}: retrying {done.objects} objects;"
        f" geotag status --run {done.run_id} --watch"
    )


def _retry(context: Context, asked: FailureFilter, *, dry_run: bool) -> Retry:
    size = context.settings.worker.chunk_size
    return retry(context.engine, asked, f"retry: {asked}", chunk_size=size, dry_run=dry_run)


def _say(found: Retry, *, advise: bool) -> None:
    if not found.objects:
        console.print("nothing to retry: geotag failures lists the failures")
    for code, objects in found.codes.items():
        what = f": {advice(code)}" if advise else ""
        console.print(f"{objects:>8} [red]{code}[/red]{what}", highlight=False, soft_wrap=True)
    if found.busy:
        console.print(f"{found.busy:>8} not retried: an unfinished run contains them")
