"""One object, from its key to the result to be written: fetch, read, infer.

Threads run many objects at once, so that fetching, decoding and inference overlap. Each step
releases the interpreter lock while it waits or computes.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from db.ledger import Content, Geotag, Result
from db.objects import ArchiveObject
from db.schema import RADII_KM, REGION_LEVELS, SCENES
from workers.chunks.prediction import Prediction
from workers.chunks.triton_client import TritonClient
from workers.errors import (
    ArchiveUnavailable,
    GeotagError,
    InternalError,
    ObjectChanged,
    PermanentError,
    TransientError,
    UsageError,
)
from workers.photo.reading import PhotoFacts, PhotoLimits, read_photo
from workers.s3.service import Fetched, S3Service
from workers.settings import WorkerSettings
from workers.telemetry import metrics
from workers.telemetry.logs import bound

log = logging.getLogger(__name__)


class _OneAtATime:
    """Locks by content: one thread at a time works on the same bytes; the next finds them done."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[bytes, tuple[threading.Lock, int]] = {}

    @contextmanager
    def on(self, sha256: bytes) -> Iterator[None]:
        with self._guard:
            lock, waiting = self._locks.get(sha256, (threading.Lock(), 0))
            self._locks[sha256] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, waiting = self._locks.pop(sha256)
                if waiting > 1:
                    self._locks[sha256] = (lock, waiting - 1)


class Pipeline:
    """The steps for the objects of one chunk, under one release.

    Args:
        settings: limits and timeouts.
        s3: the S3 service of the chunk's archive.
        triton: the client for the chunk's release.
        claim: leases some bytes for inference; returns the state of their geotag, if any.
        code_version: version of this package, for the provenance of rows.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        s3: S3Service,
        triton: TritonClient,
        claim: Callable[[bytes], str | None],
        code_version: str,
    ) -> None:
        self._settings = settings
        self._s3 = s3
        self._triton = triton
        self._claim = claim
        self._code_version = code_version
        self._limits = PhotoLimits(settings.max_bytes, settings.max_pixels, settings.decode_seconds)
        self._one_at_a_time = _OneAtATime()
        self._located: dict[bytes, str] = {}

    def run(self, obj: ArchiveObject) -> Result:
        """Return the result to be written about an object; a permanent error is a result too.

        Raises:
            TransientError: trying later may work.
        """
        with bound(object=obj.object_version_id), metrics.OBJECT_SECONDS.time():
            return self._run(obj)

    def _run(self, obj: ArchiveObject) -> Result:
        fetched: Fetched | None = None
        try:
            with metrics.stage("fetch"):
                fetched = self._fetch(obj)
            with self._one_at_a_time.on(fetched.sha256):
                return self._locate(obj, fetched)
        except TransientError:
            raise
        except UsageError as error:
            # This worker lacks a credential, for instance: not the object's fault.
            raise ArchiveUnavailable(error.message) from error
        except PermanentError as error:
            with bound(code=error.code):
                log.info("the object failed: %s", error.message)
            return failure(obj, error, fetched)
        except Exception as error:
            log.exception("object %d: internal error", obj.object_version_id)
            internal = InternalError(f"{type(error).__name__}: {error}")
            return failure(obj, internal, fetched)

    def _fetch(self, obj: ArchiveObject) -> Fetched:
        if not obj.etag:
            # The key of a manifest was missing at planning; head() raises the error if it still is.
            self._s3.head(obj.bucket, obj.key)
            raise ObjectChanged("the object was not there when it was planned; plan again")
        return self._s3.fetch(obj, self._settings.max_bytes)

    def _locate(self, obj: ArchiveObject, fetched: Fetched) -> Result:
        """Infer the bytes, unless that is done. The caller has their lock."""
        state = self._located.get(fetched.sha256) or self._claim(fetched.sha256)
        if state is not None:
            content = Content(sha256=fetched.sha256, bytes=len(fetched.data))
            return Result(
                obj.object_version_id, state, content=content, version_id=fetched.version_id
            )
        served = self._triton.served()
        with metrics.stage("read"):
            photo = read_photo(fetched.data, served.spec, self._limits)
        with metrics.stage("infer"):
            prediction = self._triton.locate(photo.pixels)
        geotag = _geotag(fetched.sha256, prediction, self._code_version)
        self._located[fetched.sha256] = geotag.state
        return Result(
            obj.object_version_id,
            geotag.state,
            content=_content(fetched, photo.facts),
            version_id=fetched.version_id,
            geotag=geotag,
        )


def failure(
    obj: ArchiveObject, error: GeotagError, fetched: Fetched | None = None, *, state: str = "failed"
) -> Result:
    """Return the result that records an error."""
    return Result(
        obj.object_version_id,
        state,
        code=error.code,
        message=error.message[:2000],
        content=Content(fetched.sha256, len(fetched.data)) if fetched else None,
        version_id=fetched.version_id if fetched else None,
    )


def _content(fetched: Fetched, facts: PhotoFacts) -> Content:
    return Content(
        sha256=fetched.sha256,
        bytes=len(fetched.data),
        format=facts.format,
        width=facts.width,
        height=facts.height,
        captured_at=facts.captured_at,
        camera_make=facts.camera_make,
        camera_model=facts.camera_model,
        exif_longitude=facts.longitude,
        exif_latitude=facts.latitude,
        exif_altitude_m=facts.altitude_m,
    )


def _geotag(sha256: bytes, said: Prediction, code_version: str) -> Geotag:
    rows: dict[str, Any] = {f"scene_{name}": said.scene[name] for name in SCENES}
    for radius in RADII_KM:
        rows["confidence" if radius == 200 else f"confidence_{radius}_km"] = said.confidence[radius]
    for name, cell in (("coarse", said.coarse), ("middle", said.middle), ("fine", said.fine)):
        rows[f"{name}_cell"] = cell.token if cell else None
        rows[f"{name}_probability"] = cell.probability if cell else None
    regions = {f"region_{level}": said.regions[level] for level in REGION_LEVELS}
    for name, cells in {"candidate": said.candidates, **regions}.items():
        rows[f"{name}_cells"] = tuple(cell.token for cell in cells)
        rows[f"{name}_probabilities"] = tuple(cell.probability for cell in cells)
    return Geotag(
        sha256=sha256,
        release_digest=said.release_digest,
        state="abstained" if said.abstention else "geotagged",
        abstention=said.abstention,
        longitude=said.longitude,
        latitude=said.latitude,
        scene=max(said.scene, key=lambda name: said.scene[name]),
        code_version=code_version,
        **rows,
    )
