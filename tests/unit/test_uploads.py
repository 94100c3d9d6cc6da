"""Uploads of folders."""

import re
from pathlib import Path

import pytest

from workers.errors import UsageError
from workers.planning.uploads import folder_prefix, upload_folder
from workers.s3.service import S3Service


def keys(archive: S3Service, bucket: str) -> list[str]:
    return sorted(obj.key for page in archive.list_objects(bucket) for obj in page.objects)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    for name in ("a.jpg", "sub/b c.jpg", "sub/deep/ü.jpg", ".hidden.jpg", ".cache/x.jpg", "s/.x"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def upload(archive: S3Service, bucket: str, folder: Path) -> tuple[str, list[tuple[int, int]]]:
    reports: list[tuple[int, int]] = []
    prefix = upload_folder(
        archive, bucket, folder, report=lambda done, total: reports.append((done, total))
    )
    return prefix, reports


def test_folder_is_uploaded_under_its_name_without_hidden_files(
    archive: S3Service, bucket: str, album: Path
) -> None:
    prefix, reports = upload(archive, bucket, album)
    assert re.fullmatch(r"album-[0-9a-f]{6}/", prefix)
    assert keys(archive, bucket) == [
        prefix + name for name in ("a.jpg", "sub/b c.jpg", "sub/deep/ü.jpg")
    ]
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_hidden_folder_that_is_asked_for_is_uploaded(
    archive: S3Service, bucket: str, tmp_path: Path
) -> None:
    folder = tmp_path / ".private"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    prefix, _reports = upload(archive, bucket, folder)
    assert prefix.startswith(".private-")
    assert keys(archive, bucket) == [f"{prefix}a.jpg"]


def test_relative_folder_is_named_by_its_real_name(
    archive: S3Service, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = folder_prefix(album)
    monkeypatch.chdir(album)
    assert upload(archive, bucket, Path())[0] == expected


def test_unchanged_files_are_not_uploaded_again(
    archive: S3Service, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
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


def test_films_and_sidecars_are_not_uploaded(archive: S3Service, bucket: str, album: Path) -> None:
    """The run would leave them out, so uploading gigabytes of them is useless."""
    (album / "film.mp4").write_bytes(b"x")
    (album / "a.xmp").write_bytes(b"x")
    _prefix, reports = upload(archive, bucket, album)
    assert {key.rpartition("/")[2] for key in keys(archive, bucket)} == {
        "a.jpg", "b c.jpg", "ü.jpg"
    }  # fmt: skip
    assert reports[-1] == (3, 3)


def test_folder_of_films_is_refused(archive: S3Service, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match="photographs"):
        upload(archive, bucket, tmp_path)


def test_file_that_is_gone_before_it_is_read_is_named(
    archive: S3Service, bucket: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ensure_bucket", lambda _bucket: (album / "a.jpg").unlink())
    with pytest.raises(UsageError, match=r"a\.jpg"):
        upload(archive, bucket, album)


def test_links_are_followed_to_files_and_not_into_loops(
    archive: S3Service, bucket: str, album: Path
) -> None:
    """As `aws s3 cp` does: git-annex and photo managers make folders of links."""
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


def test_folder_without_files_is_refused(archive: S3Service, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no files"):
        upload(archive, bucket, tmp_path)


def test_two_folders_of_one_name_do_not_overwrite_each_other(
    archive: S3Service, bucket: str, tmp_path: Path
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


def test_undecodable_file_name_is_reported(archive: S3Service, bucket: str, album: Path) -> None:
    """Old archives have Latin-1 names, and an S3 key is UTF-8."""
    (album / "\udce9t\udce9.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="UTF-8") as caught:
        upload(archive, bucket, album)
    assert "t\\udce9.jpg" in caught.value.message
    assert keys(archive, bucket) == []  # reported before any upload
