"""S3 URLs, and objects that listings leave out."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import UsageError
from workers.s3.objects import ArchiveObject, Skip, parse_s3_url, s3_url, triage

ODD_KEYS = [
    "with space.jpg", "a+b.jpg", "100%.jpg", "%2F.jpg", "q?x=1#f.jpg", "a&b=c;d.jpg", "~*'().jpg",
    "ünï/日本.jpg", "e\u0301.jpg", "😀.jpg", '"q".jpg', "<x>.jpg", "back\\slash.jpg",
    "a//b.jpg", "/lead.jpg", "//", "a/../b.jpg", "a/./b.jpg", ".", "..", "trailing.jpg/",
    "tab\t.jpg", "\x01.jpg", "\x7f.jpg",
]  # fmt: skip


@given(st.from_regex(r"[a-z0-9.-]{3,63}", fullmatch=True), st.text())
def test_a_url_keeps_its_key(bucket, key):
    assert parse_s3_url(s3_url(bucket, key)) == (bucket, key)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_taken_literally(key):
    assert parse_s3_url(f"s3://bucket/{key}") == ("bucket", key)


def test_a_bucket_alone_is_an_empty_key():
    assert parse_s3_url("s3://bucket") == parse_s3_url("s3://bucket/") == ("bucket", "")


@pytest.mark.parametrize("url", ["", "bucket/key", "s3:/bucket/key", "s3:///key", "https://b/k"])
def test_other_urls_are_refused(url):
    with pytest.raises(UsageError):
        parse_s3_url(url)


@pytest.mark.parametrize(
    ("key", "size", "expected"),
    [
        ("a/photo.jpg", 10, None),
        ("a/photo.JPG", 0, None),
        ("a/photo", 10, None),
        ("a/photo.unknown", 10, None),
        ("a/raw.CR2", 10, None),
        ("a/layers.psd", 10, None),
        ("a.txt/photo", 10, None),
        ("txt", 10, None),
        ("a/", 0, Skip.FOLDER),
        ("a/photo.jpg/", 0, Skip.FOLDER),
        ("a/photo.jpg/", 10, None),
        ("a/photo.jpg.XMP", 10, Skip.NOT_A_PICTURE),
        ("a/notes.txt", 0, Skip.NOT_A_PICTURE),
        ("a/film.MOV", 10, Skip.NOT_A_PICTURE),
        ("a/.DS_Store", 10, Skip.NOT_A_PICTURE),
        ("a/Thumbs.db", 10, Skip.NOT_A_PICTURE),
    ],
)
def test_triage(key, size, expected):
    assert triage(ArchiveObject("b", key, "e", size, datetime.now(UTC))) is expected
