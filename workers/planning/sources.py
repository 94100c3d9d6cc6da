"""Sources of objects: a prefix of an archive, an S3 Inventory of it, or a manifest file.

A source yields pages of objects, each with the cursor after it, so the death of a planner costs one
page. Only objects of registered archives are listed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import translate

from db.archives import RegisteredArchive, covering
from db.objects import ArchiveObject
from db.planning import ListedPage, Whole
from db.runs import Cursor
from workers.errors import ObjectForbidden, UsageError
from workers.s3.service import S3Services, s3_url, triage

DONE: Cursor = {"done": True}
"""The cursor after the last page."""


class CursorRefused(Exception):
    """A cursor is no longer valid: the listing begins again."""


@dataclass(frozen=True)
class Source:
    """The source of a run: what it lists.

    Args:
        name: in the ledger; sources of the same name are the same.
        archive: of all its objects, or None.
        pages: yields its pages after a cursor (None: from the beginning). Raises CursorRefused, and
            the errors of workers/errors.py.
        prefix: for which it is complete, or None.
        as_of: when it was made, if not while it is read.
        lag: how old an object may have been at that time and still be absent from it.
    """

    name: str
    archive: RegisteredArchive | None
    pages: Callable[[Cursor | None], Iterator[ListedPage]]
    prefix: str | None = None
    as_of: datetime | None = None
    lag: timedelta = timedelta(0)

    def whole(self, began: datetime) -> Whole | None:
        """Return what it completely covers, if reading it began at a time; None if nothing."""
        if self.archive is None or self.prefix is None:
            return None
        return Whole(self.archive.id, self.prefix, min(began, (self.as_of or began) - self.lag))


def listing(archives: S3Services, archive: RegisteredArchive, prefix: str) -> Source:
    """Return the source of all photographs below a prefix of an archive.

    Its pages raise BucketUnknown, ObjectForbidden, ArchiveUnavailable, Redirected, EndpointRefused.
    """
    chosen = selection(archive)

    def pages(cursor: Cursor | None) -> Iterator[ListedPage]:
        if cursor == DONE:
            return
        start: str | None = cursor["token"] if cursor else None
        listed = archives.of(archive).list_objects(archive.bucket, prefix, start=start)
        try:
            for page in listed:
                token = page.next_token
                yield as_page(archive, page.objects, chosen, {"token": token} if token else DONE)
                start = None
        except ObjectForbidden as error:
            if start:  # services answer so to an expired token
                raise CursorRefused from error
            raise

    return Source(s3_url(archive.bucket, prefix), archive, pages, prefix)


def selection(archive: RegisteredArchive) -> Callable[[ArchiveObject], bool]:
    """Return a test of whether a listed object is one of an archive's photographs.

    It is not a sidecar or a folder, and its key below the archive's prefix matches a glob of
    `include` (if there is any) and none of `exclude`. `*` matches slashes, as in `aws s3 cp`.
    """
    include, exclude = _any_of(archive.include), _any_of(archive.exclude)

    def chosen(obj: ArchiveObject) -> bool:
        below = obj.key[len(archive.prefix) :]
        return (
            triage(obj) is None
            and (include is None or include.match(below) is not None)
            and (exclude is None or exclude.match(below) is None)
        )

    return chosen


def _any_of(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(translate, globs))) if globs else None


def as_page(
    archive: RegisteredArchive,
    objects: Iterable[ArchiveObject],
    chosen: Callable[[ArchiveObject], bool],
    cursor: Cursor,
) -> ListedPage:
    """Return a page with the chosen objects of an archive's listing."""
    wanted: list[ArchiveObject] = []
    left_out: list[str] = []
    for obj in objects:
        if chosen(obj):
            wanted.append(as_listed(archive, obj))
        else:
            left_out.append(obj.key)
    return ListedPage(wanted, len(left_out), cursor, left_out)


def as_listed(archive: RegisteredArchive, obj: ArchiveObject) -> ArchiveObject:
    """Return an object with its archive's id."""
    return replace(obj, archive_id=archive.id)


def archive_of(registered: Sequence[RegisteredArchive], bucket: str, key: str) -> RegisteredArchive:
    """Return the registered archive that a key of a bucket belongs to.

    Raises:
        UsageError: there is none, there are two at different endpoints, or it is paused.
    """
    found = covering(registered, bucket, key)
    if not found:
        raise UsageError(
            f"{s3_url(bucket, key)[:300]} is in no registered archive:"
            f" geotag archive add NAME s3://{bucket}/"
        )
    if len(found) > 1:
        names = " and ".join(archive.name for archive in found)
        raise UsageError(
            f"s3://{bucket} is registered at two endpoints, as {names}: name the archive instead"
        )
    (archive,) = found
    if archive.paused_at:
        raise UsageError(
            f"the archive {archive.name} is paused: geotag archive resume {archive.name}"
        )
    return archive


def check_key(key: str) -> str | None:
    """Return why a key from a file must not be requested; None if it may be.

    Some services resolve `..` as in a path, so the request would leave the archive's prefix.
    """
    if "\x00" in key:
        return "a NUL"
    if len(key.encode(errors="replace")) > 1024:
        return "a key of more than 1024 bytes, which is S3's limit"
    if {".", ".."} & set(key.split("/")):
        return "a '.' or '..' between slashes"
    return None
