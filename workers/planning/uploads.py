"""Local files on their way into the archive: a folder becomes a prefix of our own bucket."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from os import fsencode
from pathlib import Path, PurePath

from db.objects import ArchiveObject
from workers.errors import UsageError
from workers.s3.service import S3Service, triage

_UPLOADS_AT_ONCE = 8


def key_of(path: PurePath) -> str:
    """A path as a key.

    Raises:
        UsageError: it is no UTF-8, as S3 keys are (Latin-1 names in old archives).
    """
    key = path.as_posix()
    try:
        key.encode()
    except UnicodeEncodeError:
        shown = key.encode(errors="backslashreplace").decode()
        raise UsageError(f"the name of {shown} is no UTF-8, as S3 keys are: rename it") from None
    return key


def folder_prefix(folder: Path) -> str:
    """The prefix that a folder is uploaded under: `photos-1a2b3c/`.

    Its name, for people, and six digits of its whole path's SHA-256, so that /2001/photos and
    /2002/photos do not overwrite each other.

    Raises:
        UsageError: its name is no UTF-8.
    """
    whole = folder.resolve()
    digest = sha256(fsencode(whole), usedforsecurity=False).hexdigest()
    return f"{key_of(PurePath(whole.name))}-{digest[:6]}/"


def upload_folder(
    archive: S3Service, bucket: str, folder: Path, *, report: Callable[[int, int], None]
) -> str:
    """Upload the files of a folder that the bucket does not hold yet; returns their prefix.

    A file is uploaded under the folder's prefix and its path in the folder, and not again while
    the object has its MD5 for an ETag (which it has after a plain upload).

    Args:
        archive: the S3 service.
        bucket: made where it is missing.
        folder: searched with its subfolders. Links to files are followed, as `aws s3 cp` does, and
            linked folders are not entered. Hidden files stay where they are, and so do those that
            a run would leave out by their names (sidecars, films).
        report: called with (files looked at, files in all).

    Raises:
        UsageError: nothing is left to upload, or a file cannot be read or named in S3.
    """
    prefix = folder_prefix(folder)
    files = {prefix + key_of(path.relative_to(folder)): path for path in _visible_files(folder)}
    files = {key: path for key, path in files.items() if triage(ArchiveObject(bucket, key)) is None}
    if not files:
        raise UsageError(f"{folder} holds no files that could be photographs")
    archive.ensure_bucket(bucket)
    known = {
        obj.key: obj.etag for page in archive.list_objects(bucket, prefix) for obj in page.objects
    }

    def put(key: str) -> None:
        data = read_file(files[key])
        if known.get(key) != md5(data, usedforsecurity=False).hexdigest():
            archive.upload(bucket, key, data)

    with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as threads:
        for number, _none in enumerate(threads.map(put, sorted(files)), 1):
            report(number, len(files))
    return prefix


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def read_file(path: Path) -> bytes:
    """The bytes of a file of the user's.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
