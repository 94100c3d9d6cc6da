"""Manifests in all the shapes that people write, and folders that are uploaded."""

import csv
import logging
import re
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from workers import sources
from workers.archive import Archive
from workers.errors import UsageError
from workers.settings import WorkerSettings
from workers.sources import (
    folder_prefix,
    from_manifest,
    from_prefix,
    manifest_urls,
    upload_folder,
)

A, B = "s3://bucket/a.jpg", "s3://bucket/b c.jpg"


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes, name: str = "manifest.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


Write = Callable[[str | bytes], Path]


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
    assert list(manifest_urls(manifest(content))) == [A, B]


def test_blank_lines_before_the_header(manifest: Write) -> None:
    assert list(manifest_urls(manifest(f"\n\nurl\n{A}\n"))) == [A]


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
    assert list(manifest_urls(path)) == urls


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "url\n", "name,size\na.jpg,3\n", "https://host/a.jpg\nhttps://host/b.jpg\n"],
)
def test_file_without_s3_urls_is_no_manifest(manifest: Write, content: str) -> None:
    path = manifest(content)
    with pytest.raises(UsageError, match="s3:// URL") as caught:
        list(manifest_urls(path))
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
        list(manifest_urls(path))
    assert str(path) in caught.value.message


def test_row_that_is_too_short_is_named(manifest: Write) -> None:
    with pytest.raises(UsageError, match="row 3"):
        list(manifest_urls(manifest(f"id,url\n1,{A}\n2\n")))


def test_long_wrong_value_is_not_repeated_in_full(manifest: Write) -> None:
    with pytest.raises(UsageError) as caught:
        list(manifest_urls(manifest(f"{A}\n{'x' * 10_000}\n")))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f"{A}\n".encode() + "s3://bucket/été.jpg\n".encode("latin-1"), "m.csv"),
        (f"{A}\n".encode("utf-16"), "m.csv"),
        (f"{A},{'x' * 200_000}\n".encode(), "m.csv"),
        (b"no parquet at all", "m.parquet"),
        (b"", "m.parquet"),
    ],
)
def test_unreadable_file_is_named(manifest: Write, content: bytes, name: str) -> None:
    path = manifest(content, name)  # type: ignore[call-arg]
    with pytest.raises(UsageError) as caught:
        list(manifest_urls(path))
    assert str(path) in caught.value.message


def test_nul_byte_ends_nothing_in_silence(manifest: Write) -> None:
    """S3 has no such key; the worker will say so, and the rows after it are not lost."""
    path = manifest(f"{A}\ns3://bucket/x\x00y\n{B}\n")
    assert list(manifest_urls(path)) == [A, "s3://bucket/x\x00y", B]


def parquet(path: Path, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "m.parquet", id=[1, 2], title=["x", None], url=[A, B], raw=[b"", b"x"]
    )
    assert list(manifest_urls(path)) == [A, B]


def test_parquet_columns_that_are_no_text_are_not_read(tmp_path: Path) -> None:
    """They may be thumbnails or embeddings of a thousand numbers."""
    path = tmp_path / "m.parquet"
    urls = pyarrow.array([A, B]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"raw": [b"x" * 5000] * 2, "url": urls}), path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(16) + data[20:])  # breaks the first column
    assert list(manifest_urls(path)) == [A, B]


def test_parquet_row_without_a_url_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "m.PARQUET", id=["1", "2"], url=[A, None])
    with pytest.raises(UsageError, match="row 2"):
        list(manifest_urls(path))


def test_parquet_with_a_broken_page_is_named(tmp_path: Path) -> None:
    urls: list[object] = [f"s3://bucket/{uuid.uuid4()}" for _ in range(1000)]
    path = parquet(tmp_path / "m.parquet", url=urls)
    data = bytearray(path.read_bytes())
    data[4:40] = bytes(36)
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"m\.parquet"):
        list(manifest_urls(path))


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


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def archive(endpoint: str) -> Archive:
    settings = WorkerSettings(
        s3_endpoint=endpoint, s3_access_key="key", s3_secret_key="secret", s3_tries=1
    )
    return Archive(settings)


@pytest.fixture
def bucket(archive: Archive) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    archive.ensure_bucket(name)
    return name


def keys(archive: Archive, bucket: str) -> list[str]:
    return sorted(obj.key for page in archive.list_objects(bucket) for obj in page.objects)


def test_prefix_leaves_out_what_is_no_photograph(archive: Archive, bucket: str) -> None:
    for key in ("p/a.jpg", "p/a.xmp", "p/", "p/noextension", "q/b.jpg"):
        archive.upload(bucket, key, b"" if key == "p/" else b"x")
    (page,) = from_prefix(archive, bucket, "p/")
    assert sorted(obj.key for obj in page.objects) == ["p/a.jpg", "p/noextension"]
    assert page.skipped == 2


def test_manifest_keeps_its_order_and_yields_what_is_not_there(
    archive: Archive, bucket: str, manifest: Write
) -> None:
    for key in ("b.jpg", "a.jpg"):
        archive.upload(bucket, key, key.encode())
    lines = [f"s3://{bucket}/b.jpg", f"s3://{bucket}/gone.jpg", f"s3://{bucket}/a.jpg", A]
    (page,) = from_manifest(archive, manifest("\n".join(lines)))
    assert [obj.key for obj in page.objects] == ["b.jpg", "gone.jpg", "a.jpg", "a.jpg"]
    assert [bool(obj.etag) for obj in page.objects] == [True, False, True, False]


def test_manifest_comes_in_pages(
    archive: Archive, bucket: str, manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PAGE", 10)
    rows = "".join(f"s3://{bucket}/{n}.jpg\n" for n in range(21))
    pages = list(from_manifest(archive, manifest(rows)))
    assert [len(page.objects) for page in pages] == [10, 10, 1]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    for name in ("a.jpg", "sub/b c.jpg", "sub/deep/ü.jpg", ".hidden.jpg", ".cache/x.jpg", "s/.x"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def upload(archive: Archive, bucket: str, folder: Path) -> tuple[str, list[tuple[int, int]]]:
    reports: list[tuple[int, int]] = []
    prefix = upload_folder(
        archive, bucket, folder, report=lambda done, total: reports.append((done, total))
    )
    return prefix, reports


def test_folder_is_uploaded_under_its_name_without_hidden_files(
    archive: Archive, bucket: str, album: Path
) -> None:
    prefix, reports = upload(archive, bucket, album)
    assert re.fullmatch(r"album-[0-9a-f]{6}/", prefix)
    assert keys(archive, bucket) == [
        prefix + name for name in ("a.jpg", "sub/b c.jpg", "sub/deep/ü.jpg")
    ]
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_hidden_folder_that_is_asked_for_is_uploaded(
    archive: Archive, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / ".private"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    prefix, _reports = upload(archive, bucket, folder)
    assert prefix.startswith(".private-")
    assert keys(archive, bucket) == [f"{prefix}a.jpg"]


def test_relative_folder_is_named_by_its_real_name(
    archive: Archive, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = folder_prefix(album)
    monkeypatch.chdir(album)
    assert upload(archive, bucket, Path())[0] == expected


def test_unchanged_files_are_not_uploaded_again(
    archive: Archive, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(archive, bucket, album)
    (album / "a.jpg").write_bytes(b"changed")
    (album / "new.jpg").write_bytes(b"new")
    sent: list[str] = []
    original = archive.upload

    def counted(bucket: str, key: str, data: bytes | Path) -> object:
        sent.append(key)
        return original(bucket, key, data)

    monkeypatch.setattr(archive, "upload", counted)
    upload(archive, bucket, album)
    assert sorted(sent) == [folder_prefix(album) + name for name in ("a.jpg", "new.jpg")]


def test_films_and_sidecars_stay_where_they_are(archive: Archive, bucket: str, album: Path) -> None:
    """They would be left out of the run: uploading gigabytes of them serves nobody."""
    (album / "film.mp4").write_bytes(b"x")
    (album / "a.xmp").write_bytes(b"x")
    _prefix, reports = upload(archive, bucket, album)
    assert {key.rpartition("/")[2] for key in keys(archive, bucket)} == {
        "a.jpg", "b c.jpg", "ü.jpg"
    }  # fmt: skip
    assert reports[-1] == (3, 3)


def test_folder_of_films_is_refused(archive: Archive, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match="photographs"):
        upload(archive, bucket, tmp_path)


def test_file_that_is_gone_before_it_is_read_is_named(
    archive: Archive, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ensure_bucket", lambda _bucket: (album / "a.jpg").unlink())
    with pytest.raises(UsageError, match=r"a\.jpg"):
        upload(archive, bucket, album)


def test_links_are_followed_to_files_and_not_into_loops(
    archive: Archive, bucket: str, album: Path
) -> None:
    """As `aws s3 cp` does: a folder of links (git-annex, a photo manager's album) is an album."""
    outside = album.parent / "outside.jpg"
    outside.write_bytes(b"outside")
    (album / "link.jpg").symlink_to(outside)
    (album / "gone.jpg").symlink_to(album.parent / "nowhere")
    (album / "self.jpg").symlink_to(album / "self.jpg")
    (album / "sub" / "up").symlink_to(album)
    upload(archive, bucket, album)
    found = keys(archive, bucket)
    assert f"{folder_prefix(album)}link.jpg" in found
    assert len(found) == 4


def test_folder_without_files_is_refused(archive: Archive, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no files"):
        upload(archive, bucket, tmp_path)


def test_two_folders_of_one_name_do_not_overwrite_each_other(
    archive: Archive, bucket: str, tmp_path: Path
) -> None:
    for year in ("2001", "2002"):
        folder = tmp_path / year / "photos"
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(year.encode())
        upload(archive, bucket, folder)
    fetched = {
        archive.fetch(obj, 100).data
        for page in archive.list_objects(bucket)
        for obj in page.objects
    }
    assert fetched == {b"2001", b"2002"}


def test_file_name_that_is_no_text_is_told(archive: Archive, bucket: str, album: Path) -> None:
    """Latin-1 names of old archives: an S3 key is UTF-8."""
    (album / "\udce9t\udce9.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="UTF-8") as caught:
        upload(archive, bucket, album)
    assert "t\\udce9.jpg" in caught.value.message
    assert keys(archive, bucket) == []  # told before anything is sent
