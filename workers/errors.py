"""The error tree: each error of an object or a service, with a stable code.

```
GeotagError                       code, message
├── PermanentError                recorded with its code, never retried by itself
│   ├── PhotoError                the bytes are not a photograph that we can read
│   │   ├── EmptyFile             empty
│   │   ├── NotAnImage            not_an_image
│   │   ├── UnsupportedFormat     unsupported_format
│   │   ├── TruncatedImage        truncated
│   │   ├── CorruptImage          corrupt
│   │   ├── TooManyBytes          too_many_bytes
│   │   ├── TooManyPixels         too_many_pixels
│   │   └── DecodeTimeout         decode_timeout
│   ├── ObjectMissing             object_missing
│   ├── ObjectChanged             object_changed
│   ├── ObjectForbidden           object_forbidden
│   ├── BucketUnknown             bucket_unknown
│   ├── EndpointRefused           endpoint_refused
│   ├── Redirected                redirected
│   ├── InferenceRefused          inference_refused (names the ensemble's step)
│   ├── WorkerKilled              worker_killed (quarantine)
│   ├── InternalError             internal_error (a fault of this program; see the log)
│   └── RetriesExhausted          the transient error's code, after its last try
├── TransientError                retried with back-off, within a bound, then recorded
│   ├── ArchiveUnavailable        s3_unavailable
│   │   └── CredentialRefused     credential_refused
│   ├── InferenceUnavailable      triton_unavailable
│   │   └── InferenceMalformed    triton_malformed
│   ├── InferenceTimeout          triton_timeout
│   ├── ReleaseNotServed          release_not_served
│   ├── ContentBusy               content_busy
│   ├── WorkerStopping            worker_stopping (told to: SIGTERM)
│   └── LedgerUnavailable         database_unavailable
└── UsageError                    wrong usage or settings; nothing was recorded
```

Scripts and `geotag retry` filter on codes.
"""


class GeotagError(Exception):
    """Root of the tree: an error with a stable code and a sentence for a person."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PermanentError(GeotagError):
    """Trying again would fail again: record it."""


class TransientError(GeotagError):
    """Trying again later may work."""


class UsageError(GeotagError):
    """Wrong usage or settings; nothing was recorded."""

    code = "usage"


class PhotoError(PermanentError):
    """The bytes are not a photograph that we can read."""

    code = "photo"


class EmptyFile(PhotoError):
    """The object has no bytes."""

    code = "empty"


class NotAnImage(PhotoError):
    """The bytes are of no image format."""

    code = "not_an_image"


class UnsupportedFormat(PhotoError):
    """An image, in a format or a variant that we do not decode."""

    code = "unsupported_format"


class TruncatedImage(PhotoError):
    """The image ends before its last row."""

    code = "truncated"


class CorruptImage(PhotoError):
    """The image's data are inconsistent."""

    code = "corrupt"


class TooManyBytes(PhotoError):
    """Larger than the limit on bytes; not downloaded or not decoded."""

    code = "too_many_bytes"


class TooManyPixels(PhotoError):
    """Larger than the limit on pixels; not decoded."""

    code = "too_many_pixels"


class DecodeTimeout(PhotoError):
    """Decoding took longer than the limit."""

    code = "decode_timeout"


class ObjectMissing(PermanentError):
    """The object vanished between listing and fetching."""

    code = "object_missing"


class ObjectChanged(PermanentError):
    """The object's ETag is no longer the listed one; the next plan picks up the new version."""

    code = "object_changed"


class ObjectForbidden(PermanentError):
    """The archive's credential may not read this object."""

    code = "object_forbidden"


class BucketUnknown(PermanentError):
    """There is no such bucket at the endpoint."""

    code = "bucket_unknown"


class EndpointRefused(PermanentError):
    """The endpoint's name resolves to an address that it was not registered for."""

    code = "endpoint_refused"


class Redirected(PermanentError):
    """The endpoint answers with a redirect, which is never followed."""

    code = "redirected"


class InferenceRefused(PermanentError):
    """Triton refused this picture."""

    code = "inference_refused"

    def __init__(self, message: str, step: str | None = None) -> None:
        super().__init__(f"{step}: {message}" if step else message)
        self.step = step


class WorkerKilled(PermanentError):
    """Every worker that began this object died; it is in quarantine."""

    code = "worker_killed"


class InternalError(PermanentError):
    """A fault of this program in handling the object; the log has the traceback."""

    code = "internal_error"


class RetriesExhausted(PermanentError):
    """A transient error outlasted its retries; it keeps that error's code."""

    def __init__(self, last: TransientError, tries: int) -> None:
        super().__init__(f"{last.message} (after {tries} tries)")
        self.code = last.code


class ArchiveUnavailable(TransientError):
    """S3 did not answer, or answered with a server error."""

    code = "s3_unavailable"


class CredentialRefused(ArchiveUnavailable):
    """S3 refuses the credential itself: a fault of the set-up, not of any object."""

    code = "credential_refused"


class InferenceUnavailable(TransientError):
    """Triton cannot be reached, is overloaded, or the address is not Triton's gRPC port."""

    code = "triton_unavailable"


class InferenceMalformed(InferenceUnavailable):
    """Triton's answer breaks the wire contract: a fault of the served model, not of a picture."""

    code = "triton_malformed"


class InferenceTimeout(TransientError):
    """Triton did not answer within the deadline."""

    code = "triton_timeout"


class ReleaseNotServed(TransientError):
    """Triton is up but does not serve the release's ensemble (yet)."""

    code = "release_not_served"


class ContentBusy(TransientError):
    """Another worker is having the same bytes inferred."""

    code = "content_busy"


class WorkerStopping(TransientError):
    """This worker was told to stop before the object was done; another worker goes on."""

    code = "worker_stopping"


class LedgerUnavailable(TransientError):
    """PostgreSQL cannot be reached, or cannot run the statement now."""

    code = "database_unavailable"
