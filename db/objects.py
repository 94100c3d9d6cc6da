"""The one type of an object on its way, from a listing to its row."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ArchiveObject:
    """An object of an archive. Each stage adds what it knows; 0 and None stand for not known.

    Args:
        bucket, key: where it is.
        etag: without quotes; empty for one that a manifest names and that was not found.
        size: in bytes.
        last_modified: as the S3 service states it.
        version_id: of a bucket that keeps versions.
        archive_id: of the registered archive that it belongs to.
        object_version_id: of its row in the ledger.
        kills: how many workers have died while they processed it.
    """

    bucket: str
    key: str
    etag: str = ""
    size: int = 0
    last_modified: datetime | None = None
    version_id: str | None = None
    archive_id: int = 0
    object_version_id: int = 0
    kills: int = 0
