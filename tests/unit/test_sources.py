"""Listings of archives: which objects they choose, and how they resume."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from db.archives import RegisteredArchive
from db.planning import Whole
from workers.errors import ObjectForbidden, UsageError
from workers.planning.sources import (
    DONE,
    CursorRefused,
    Source,
    archive_of,
    check_key,
    listing,
    selection,
)
from workers.s3.service import ArchiveObject, Page

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def registered(name: str = "a", prefix: str = "p/", **changes: Any) -> RegisteredArchive:
    return RegisteredArchive(name, "", "bucket", prefix, id=3, **changes)


def obj(key: str, size: int = 1) -> ArchiveObject:
    return ArchiveObject("bucket", key, "e", size, None)


class Listed:
    """Stands in for the S3 services: serves pages of keys, and records the tokens."""

    def __init__(self, *pages: list[str], refuses: str | None = None) -> None:
        self.pages = pages
        self.refuses = refuses
        self.asked: list[tuple[str, str, str | None]] = []

    def of(self, _archive: object) -> "Listed":
        return self

    def list_objects(self, bucket: str, prefix: str, *, start: str | None) -> Iterator[Page]:
        self.asked.append((bucket, prefix, start))
        if start is not None and start == self.refuses:
            raise ObjectForbidden("400 InvalidArgument")
        for number in range(int(start or 0), len(self.pages)):
            token = str(number + 1) if number + 1 < len(self.pages) else None
            yield Page(tuple(map(obj, self.pages[number])), token)


def source(listed: Any, **changes: Any) -> Source:
    return listing(listed, registered(**changes), "p/sub/")


def test_listing_of_an_archive_resumes_after_any_page() -> None:
    listed = Listed(["p/sub/a.jpg", "p/sub/x.xmp"], ["p/sub/b.jpg"], ["p/sub/c.jpg"])
    pages = list(source(listed).pages(None))
    assert [[o.key for o in page.objects] for page in pages] == [
        ["p/sub/a.jpg"], ["p/sub/b.jpg"], ["p/sub/c.jpg"],
    ]  # fmt: skip
    assert [page.skipped for page in pages] == [1, 0, 0]
    assert [page.left_out for page in pages] == [["p/sub/x.xmp"], [], []]
    assert {o.archive_id for page in pages for o in page.objects} == {3}
    for number, page in enumerate(pages):
        assert list(source(listed).pages(page.cursor)) == pages[number + 1 :]
    assert pages[-1].cursor == DONE


def test_only_a_refused_token_restarts_the_listing() -> None:
    with pytest.raises(CursorRefused):
        list(source(Listed(["p/sub/a.jpg"], ["p/sub/b.jpg"], refuses="1")).pages({"token": "1"}))

    class Forbidden(Listed):
        def list_objects(self, *_given: Any, **_more: Any) -> Iterator[Page]:
            raise ObjectForbidden("403 AccessDenied")

    with pytest.raises(ObjectForbidden):
        list(source(Forbidden()).pages(None))


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ((), (), {"a.jpg", "b.png", "2024/c.jpg", "2024/thumbs/d.jpg", "p/e.jpg"}),
        (("*.jpg",), (), {"a.jpg", "2024/c.jpg", "2024/thumbs/d.jpg", "p/e.jpg"}),
        (("2024/*",), ("*/thumbs/*",), {"2024/c.jpg"}),
        (("a.*", "b.*"), (), {"a.jpg", "b.png"}),
        (("p/*",), (), {"p/e.jpg"}),
        ((), ("*",), set()),
        (("[ab].???",), ("b*",), {"a.jpg"}),
    ],
)
def test_globs_match_keys_below_the_prefix(
    include: tuple[str, ...], exclude: tuple[str, ...], chosen: set[str]
) -> None:
    keys = ["a.jpg", "b.png", "2024/c.jpg", "2024/thumbs/d.jpg", "p/e.jpg", "a.xmp"]
    choose = selection(registered(include=include, exclude=exclude))
    assert {key for key in keys if choose(obj(f"p/{key}"))} == chosen


def test_completeness_of_a_listing() -> None:
    began = NOW + timedelta(days=1)
    assert source(Listed()).whole(began) == Whole(3, "p/sub/", began)
    older = Source("x", registered(), lambda _cursor: iter(()), "p/", NOW)
    assert older.whole(began) == Whole(3, "p/", NOW)
    lags = replace(older, lag=timedelta(hours=2))
    assert lags.whole(began) == Whole(3, "p/", NOW - timedelta(hours=2))
    assert Source("x", registered(), lambda _cursor: iter(())).whole(began) is None
    assert Source("x", None, lambda _cursor: iter(()), "p/").whole(began) is None


def test_a_key_belongs_to_the_archive_that_covers_it() -> None:
    one, other = registered("one", "p/"), registered("other", "q/")
    assert archive_of([one, other], "bucket", "q/a.jpg") is other
    for key in ("a.jpg", "p", "Q/a.jpg"):
        with pytest.raises(UsageError, match="geotag archive add"):
            archive_of([one, other], "bucket", key)
    with pytest.raises(UsageError, match="geotag archive add"):
        archive_of([one, other], "another", "p/a.jpg")


def test_a_bucket_of_two_endpoints_is_not_guessed() -> None:
    here = registered("here")
    there = RegisteredArchive("there", "https://s3.example.org", "bucket", "p/", id=4)
    with pytest.raises(UsageError, match="here and there"):
        archive_of([here, there], "bucket", "p/a.jpg")


@pytest.mark.parametrize("key", ["a.jpg", "a//b.jpg", "..a/b..jpg", "é" * 512, " ", "..."])
def test_odd_keys_may_be_asked_for(key: str) -> None:
    assert check_key(key) is None


@pytest.mark.parametrize("key", ["../a", "a/../b", "a/..", ".", "a/./b", "\x00", "é" * 513])
def test_ambiguous_keys_are_refused(key: str) -> None:
    assert check_key(key)
