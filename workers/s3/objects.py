"""`s3://` URLs, and which listed objects are recorded.

A listed object is skipped if its name says that it is not a photograph: a "folder", a sidecar, a
film. A skipped object never appears in the ledger; every other object gets an outcome. Objects with
an unknown extension, or none, are fetched. Camera raw and Photoshop files are recorded as
unsupported.
"""

from enum import StrEnum

from db.objects import ArchiveObject
from workers.errors import UsageError

# Extensions of other files in photo archives.
_SIDECARS = (
    "xmp aae thm pp3 xml json jsonl geojson csv tsv parquet yaml yml toml ini cfg lrcat lrprev db "
    "sqlite sqlite3 ds_store gpx kml kmz nmea md5 sha1 sha256 sums log lock tmp part bak"
)
_DOCUMENTS = "txt md rst html htm css js py ipynb sh sql pdf doc docx odt rtf xls xlsx ods ppt pptx"
_FILMS = "mp4 m4v mov avi mkv webm mpg mpeg mts m2ts 3gp wmv flv insv lrv"
_SOUNDS = "mp3 m4a wav flac ogg aac opus"
_CONTAINERS = "zip tar gz tgz bz2 xz zst 7z rar iso dmg exe dll so bin jar whl apk"
_NOT_PICTURES = frozenset(
    " ".join([_SIDECARS, _DOCUMENTS, _FILMS, _SOUNDS, _CONTAINERS]).split(" ")
)


class Skip(StrEnum):
    """Reason to skip an object."""

    FOLDER = "folder"
    NOT_A_PICTURE = "not_a_picture"


def triage(obj: ArchiveObject) -> Skip | None:
    """Return why a listed object is skipped, by its name and size; None if it is recorded."""
    if obj.key.endswith("/") and obj.size == 0:
        return Skip.FOLDER
    name = obj.key.rpartition("/")[2]
    _, dot, extension = name.rpartition(".")
    if dot and extension.lower() in _NOT_PICTURES:
        return Skip.NOT_A_PICTURE
    return None


def s3_url(bucket: str, key: str) -> str:
    """Return `s3://bucket/key`, with nothing escaped."""
    return f"s3://{bucket}/{key}"


def parse_s3_url(url: str) -> tuple[str, str]:
    """Return (bucket, key) of an `s3://bucket/key` URL; the key is "" for a whole bucket.

    The key is everything after the bucket's slash, without decoding: `%20`, `+`, `?`, `#`, `//` and
    a leading slash are parts of S3 keys.

    Raises:
        UsageError: it is not an S3 URL.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise UsageError(f"not an S3 URL (s3://bucket/key): {url}")
    return bucket, key
