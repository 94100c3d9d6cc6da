"""Where photographs are found: a prefix of an archive, an S3 Inventory of it, or a manifest file.

A source yields pages of listed objects, each with the cursor from which the listing goes on, so
that a planner that dies costs a page. Only what belongs to a registered archive is ever listed.
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
"""After the last page: a planner that dies here has nothing to list again."""


class CursorRefused(Exception):
    """The listing cannot go on from a cursor any more: begin again."""


@dataclass(frozen=True)
class Source:
    """What a run is over.

    Args:
        name: what it is called in the ledger; the same name is the same source.
        archive: that all of its objects are of, or None.
        pages: its pages from a cursor on (None is the beginning). The iterator raises
            CursorRefused, and the errors of workers/errors.py.
        prefix: below which it names everything that there is, or None.
        as_of: when it was made, if it is not made as it is read.
        lag: how long an object may have been there by then, and not be in it.
    """

    name: str
    archive: RegisteredArchive | None
    pages: Callable[[Cursor | None], Iterator[ListedPage]]
    prefix: str | None = None
    as_of: datetime | None = None
    lag: timedelta = timedelta(0)

    def whole(self, began: datetime) -> Whole | None:
        """What it is a complete listing of, if its reading began then."""
        if self.archive is None or self.prefix is None:
            return None
        return Whole(self.archive.id, self.prefix, min(began, (self.as_of or began) - self.lag))


def listing(archives: S3Services, archive: RegisteredArchive, prefix: str) -> Source:
    """Every photograph of an archive whose key begins with `prefix`, which lies in the archive.

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
            if start:  # what a service answers to a token that it does not know, or no longer
                raise CursorRefused from error
            raise

    return Source(s3_url(archive.bucket, prefix), archive, pages, prefix)


def selection(archive: RegisteredArchive) -> Callable[[ArchiveObject], bool]:
    """Whether a listed object is one of the archive's photographs.

    It is no sidecar or folder, its key below the archive's prefix matches a glob of `include` (if
    there is any), and none of `exclude`. In a glob, `*` crosses slashes, as in `aws s3 cp`.
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
    """A page of an archive's listing as the ledger takes it."""
    wanted: list[ArchiveObject] = []
    left_out: list[str] = []
    for obj in objects:
        if chosen(obj):
            wanted.append(as_listed(archive, obj))
        else:
            left_out.append(obj.key)
    return ListedPage(wanted, len(left_out), cursor, left_out)


def as_listed(archive: RegisteredArchive, obj: ArchiveObject) -> ArchiveObject:
    """An object as the ledger takes it."""
    return replace(obj, archive_id=archive.id)


def archive_of(registered: Sequence[RegisteredArchive], bucket: str, key: str) -> RegisteredArchive:
    """The registered archive that a key of a bucket belongs to.

    Raises:
        UsageError: there is none, there is one at each of two endpoints, or it is paused.
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
    """Why a key that somebody else wrote down is not to be asked for; None if it may be.

    Some services resolve `..` as a path does: the object would be one of another prefix.
    """
    if "\x00" in key:
        return "a NUL"
    if len(key.encode(errors="replace")) > 1024:
        return "a key of more than 1024 bytes, which is S3's limit"
    if {".", ".."} & set(key.split("/")):
        return "a '.' or '..' between slashes"
    return None
