"""Manifests in all the shapes that people write, and invalid ones."""

import csv
import resource
import tracemalloc
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from db.archives import RegisteredArchive
from workers.errors import UsageError
from workers.planning import manifests
from workers.planning import parquet as parquet_reading
from workers.planning.manifests import manifest as manifest_source
from workers.planning.manifests import manifest_urls
from workers.planning.sources import CursorRefused
from workers.s3.service import S3Service, S3Services
from workers.settings import WorkerSettings

A, B = "s3://bucket/a.jpg", "s3://bucket/b c.jpg"


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes, name: str = "manifest.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


Write = Callable[[str | bytes], Path]


def urls_of(path: Path) -> list[str]:
    return [url for _row, url in manifest_urls(path)]


@pytest.mark.parametrize(
    "content",
    [
        f"{A}\n{B}\n",
        f"{A}\n{B}",
        f"url\n{A}\n{B}\n",
        f"\ufeffurl\n{A}\n{B}\n",
        f"\ufeff{A}\n{B}\n",
        f"url\r\n{A}\r\n{B}\r\n",
        f"{A}\n\n{B}\n\n\n",
        f"id,url,title\n1,{A},first\n2,{B},second\n",
        f'id,url\n1,"{A}"\n2,"{B}"\n',
        f"1,{A}\n2,{B}\n,,\n",
        f"seen,url\ns3 is nice,{A}\n,{B}\n",
    ],
)
def test_csv_in_many_shapes(manifest: Write, content: str) -> None:
    assert urls_of(manifest(content)) == [A, B]


def test_blank_lines_before_the_header(manifest: Write) -> None:
    assert urls_of(manifest(f"\n\nurl\n{A}\n")) == [A]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map("s3://b/".__add__),
        min_size=1,
    )
)
def test_every_key_survives_csv(tmp_path_factory: pytest.TempPathFactory, urls: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["url"], *([url] for url in urls)])
    assert urls_of(path) == urls


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "url\n", "name,size\na.jpg,3\n", "https://host/a.jpg\nhttps://host/b.jpg\n"],
)
def test_file_without_s3_urls_is_refused(manifest: Write, content: str) -> None:
    path = manifest(content)
    with pytest.raises(UsageError, match="s3:// URL") as caught:
        urls_of(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        "https://bucket/b.jpg",
        '"=HYPERLINK(""s3://bucket/b.jpg"")"',
        "S3://bucket/b.jpg",
        "b.jpg",
        '""',
        "s3://",
        "s3:///b.jpg",
        "s3://bucket",
        "s3://bucket/",
    ],
)
def test_row_that_names_no_object_is_named_by_its_number(manifest: Write, value: str) -> None:
    path = manifest(f"id,url\n1,{A}\n2,{value}\n3,{B}\n")
    with pytest.raises(UsageError, match="row 3") as caught:
        urls_of(path)
    assert str(path) in caught.value.message


def test_row_that_is_too_short_is_named(manifest: Write) -> None:
    with pytest.raises(UsageError, match="row 3"):
        urls_of(manifest(f"id,url\n1,{A}\n2\n"))


def test_long_wrong_value_is_not_repeated_in_full(manifest: Write) -> None:
    with pytest.raises(UsageError) as caught:
        urls_of(manifest(f"{A}\n{'x' * 10_000}\n"))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f"{A}\n".encode() + "s3://bucket/été.jpg\n".encode("latin-1"), "m.csv"),
        (f"{A}\n".encode("utf-16"), "m.csv"),
        (f"{A},{'x' * 200_000}\n".encode(), "m.csv"),
        (
            f'{A}\n"{A}\n{"x" * 1000}'.encode() + b"\n" + b"y" * 60_000 + b"\n" + b"z" * 70_000,
            "m.csv",
        ),
        (b"no parquet at all", "m.parquet"),
        (b"", "m.parquet"),
    ],
)
def test_unreadable_file_is_named(manifest: Write, content: bytes, name: str) -> None:
    path = manifest(content, name)  # type: ignore[call-arg]
    with pytest.raises(UsageError) as caught:
        urls_of(path)
    assert str(path) in caught.value.message


def parquet(path: Path, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "m.parquet", id=[1, 2], title=["x", None], url=[A, B], raw=[b"", b"x"]
    )
    assert urls_of(path) == [A, B]


def test_parquet_columns_that_are_no_text_are_not_read(tmp_path: Path) -> None:
    """They may hold thumbnails or long embeddings."""
    path = tmp_path / "m.parquet"
    urls = pyarrow.array([A, B]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"raw": [b"x" * 5000] * 2, "url": urls}), path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(16) + data[20:])  # damages the first column
    assert urls_of(path) == [A, B]


def test_parquet_row_without_a_url_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "m.PARQUET", id=["1", "2"], url=[A, None])
    with pytest.raises(UsageError, match="row 2"):
        urls_of(path)


def test_parquet_with_a_broken_page_is_named(tmp_path: Path) -> None:
    urls: list[object] = [f"s3://bucket/{uuid.uuid4()}" for _ in range(1000)]
    path = parquet(tmp_path / "m.parquet", url=urls)
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"m\.parquet"):
        urls_of(path)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_memory_is_flat_in_the_number_of_rows(tmp_path: Path, form: str) -> None:
    def write(rows: int) -> Path:
        path = tmp_path / f"{rows}.{form}"
        if form == "csv":
            with path.open("w") as file:
                file.writelines(f"{n},s3://bucket/{n:07}.jpg\n" for n in range(rows))
            return path
        urls: list[object] = [f"s3://bucket/{n:07}.jpg" for n in range(rows)]
        pyarrow.parquet.write_table(pyarrow.table({"url": urls}), path, row_group_size=10_000)
        return path

    def peak(path: Path, rows: int) -> int:
        tracemalloc.start()
        try:
            assert sum(1 for _url in manifest_urls(path)) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = write(10_000), write(100_000)
    assert peak(large, 100_000) < 1.5 * peak(small, 10_000) + 100_000


@pytest.fixture
def registered(bucket: str, endpoint: str) -> list[RegisteredArchive]:
    """Register the prefix `p/` of the bucket, and a paused archive."""
    return [
        RegisteredArchive("open", endpoint, bucket, "p/", allow_private=True, id=7),
        RegisteredArchive("asleep", endpoint, "asleep", paused_at=datetime.now(UTC), id=8),
    ]


def archives_at(endpoint: str) -> S3Services:
    return S3Services(
        WorkerSettings(
            s3_endpoint=endpoint,
            s3_access_key="key",
            s3_secret_key=SecretStr("secret"),
            s3_tries=1,
        )
    )


def test_manifest_keeps_its_order_and_lists_missing_objects(
    archive: S3Service,
    bucket: str,
    endpoint: str,
    manifest: Write,
    registered: list[RegisteredArchive],
) -> None:
    for key in ("p/b.jpg", "p/a.jpg"):
        archive.upload(bucket, key, key.encode())
    path = manifest("".join(f"s3://{bucket}/p/{name}.jpg\n" for name in ("b", "gone", "a")))
    (page,) = manifest_source(archives_at(endpoint), registered, path).pages(None)
    assert [obj.key for obj in page.objects] == ["p/b.jpg", "p/gone.jpg", "p/a.jpg"]
    assert [bool(obj.etag) for obj in page.objects] == [True, False, True]
    assert {obj.archive_id for obj in page.objects} == {7}


def test_manifest_resumes_after_any_page(
    bucket: str,
    endpoint: str,
    manifest: Write,
    registered: list[RegisteredArchive],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifests, "_PAGE", 10)
    path = manifest("url\n" + "".join(f"s3://{bucket}/p/{n}.jpg\n" for n in range(21)))
    source = manifest_source(archives_at(endpoint), registered, path)
    pages = list(source.pages(None))
    assert [len(page.objects) for page in pages] == [10, 10, 1]
    for number, page in enumerate(pages):
        assert list(source.pages(page.cursor)) == pages[number + 1 :]


def test_changed_manifest_is_restarted(
    bucket: str, endpoint: str, manifest: Write, registered: list[RegisteredArchive]
) -> None:
    path = manifest(f"s3://{bucket}/p/a.jpg\n")
    source = manifest_source(archives_at(endpoint), registered, path)
    (page,) = source.pages(None)
    path.write_text(f"s3://{bucket}/p/a.jpg\ns3://{bucket}/p/b.jpg\n")
    with pytest.raises(CursorRefused):
        list(source.pages(page.cursor))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://BUCKET/q/a.jpg", "in no registered archive"),
        ("s3://elsewhere/p/a.jpg", "geotag archive add"),
        ("s3://asleep/a.jpg", "paused"),
        ("s3://BUCKET/p/../q/a.jpg", "between slashes"),
        ("s3://BUCKET/p/./a.jpg", "between slashes"),
        ("s3://BUCKET/p/..", "between slashes"),
        ("s3://BUCKET/p/a\x00.jpg", "a NUL"),
        (f"s3://BUCKET/p/{'é' * 600}.jpg", "1024 bytes"),
        ("=cmd|' /C calc'!A0", "belongs"),
        ("+1+1", "belongs"),
        ("@SUM(1)", "belongs"),
        ("http://169.254.169.254/latest", "belongs"),
        ("file:///etc/passwd", "belongs"),
    ],
)
def test_row_with_a_forbidden_url_refuses_the_manifest(
    bucket: str,
    endpoint: str,
    manifest: Write,
    registered: list[RegisteredArchive],
    url: str,
    why: str,
) -> None:
    good = f"s3://{bucket}/p/a.jpg"
    path = manifest(f"{good}\n{good}\n{url.replace('BUCKET', bucket)}\n{good}\n")
    with pytest.raises(UsageError, match="row 3") as caught:
        manifest_source(archives_at(endpoint), registered, path)
    assert why in caught.value.message
    assert len(caught.value.message) < 600


def test_a_wrong_last_row_of_a_million_is_named_in_flat_memory(
    tmp_path: Path, registered: list[RegisteredArchive], bucket: str
) -> None:
    path = tmp_path / "million.csv"
    with path.open("w") as file:
        file.writelines(f"s3://{bucket}/p/{n:07}.jpg\n" for n in range(999_999))
        file.write("=cmd|' /C calc'!A0\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="row 1000000"):
        sum(1 for _row in manifests.rows(path, registered))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KB


def test_parquet_with_a_huge_row_group_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_reading, "_MOST_AT_ONCE", 100_000)
    bomb: list[object] = ["s3://bucket/" + "x" * 1000] * 1000
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"url": bomb}), path, use_dictionary=False)
    with pytest.raises(UsageError, match="row group 1"):
        urls_of(path)
