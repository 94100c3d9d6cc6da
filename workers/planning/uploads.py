"""Upload a local folder to a prefix of the local stack's bucket."""

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
    """Return a path as an S3 key.

    Raises:
        UsageError: it is not UTF-8, as S3 keys are (old archives have Latin-1 names).
    """
    key = path.as_posix()
    try:
        key.encode()
    except UnicodeEncodeError:
        shown = key.encode(errors="backslashreplace").decode()
        raise UsageError(f"the name of {shown} is no UTF-8, as S3 keys are: rename it") from None
    return key


def folder_prefix(folder: Path) -> str:
    """Return the prefix for a folder's files, such as `photos-1a2b3c/`.

    It has the folder's name and six digits of the SHA-256 of its path, so that /2001/photos and
    /2002/photos do not overwrite each other.

    Raises:
        UsageError: its name is not UTF-8.
    """
    whole = folder.resolve()
    digest = sha256(fsencode(whole), usedforsecurity=False).hexdigest()
    return f"{key_of(PurePath(whole.name))}-{digest[:6]}/"


def upload_folder(
    archive: S3Service, bucket: str, folder: Path, *, report: Callable[[int, int], None]
) -> str:
    """Upload the files of a folder that the bucket does not have yet, and return their prefix.

    A key is the folder's prefix and the file's path in the folder. A file is not uploaded again
    while the object's ETag is its MD5, as it is after an upload in one part.

    Args:
        archive: the S3 service.
        bucket: created if it does not exist.
        folder: searched with its subfolders. Links to files are followed, as in `aws s3 cp`; links
            to folders are not. Hidden files are not uploaded, nor are those that a run skips by
            their names (sidecars, films).
        report: called with (files checked, files in all).

    Raises:
        UsageError: there is no file to upload, or one cannot be read or named in S3.
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
    """Return the bytes of a file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
