"""What an S3 service's refusals mean in our tree of errors, and how often to try again.

One mapping for both clients: boto3 hands over S3's error code, obstore a text that contains it.
Codes: Amazon S3 API reference, "Error responses".
"""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError
from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from workers.errors import (
    ArchiveUnavailable,
    BucketUnknown,
    CredentialRefused,
    GeotagError,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    TransientError,
    UsageError,
)

_CREDENTIAL_CODES = {
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
_TRANSIENT_CODES = {"SlowDown", "RequestTimeout", "OperationAborted", "Throttling", "InternalError"}
_TRANSIENT_STATUS = {408, 429}

# Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): clients that were refused
# together do not come back together.
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 10.0

T = TypeVar("T")


def tried(operation: Callable[[], T], tries: int, sleep: Callable[[float], None] = time.sleep) -> T:
    """The operation's result, trying transient errors up to `tries` times in all.

    Raises the last transient error, or any other at once.
    """
    for attempt in range(1, tries):
        try:
            return operation()
        except CredentialRefused:
            raise  # a moment later it is refused as well
        except TransientError:
            sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)))
    return operation()


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Turn what boto3 and obstore raise into errors of ours; `what` is named in their message."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        raise s3_error(status, error.response.get("Error", {}).get("Code", ""), what) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise UsageError(f"no credential for the archive: {error}") from error
    except ParamValidationError as error:
        raise UsageError(f"{what}: {error}") from error
    except (BotoCoreError, ResponseParserError) as error:
        raise ArchiveUnavailable(f"{what}: {error}") from error
    except (BaseError, FileNotFoundError) as error:
        raise _obstore_error(error, what) from error


def s3_error(status: int | None, code: str, what: str) -> GeotagError:
    """The error that an HTTP status (None: no answer) and an S3 error code stand for."""
    said = f"{what}: the archive answered {status or ''} {code}".rstrip()
    if code == "NoSuchBucket":
        return BucketUnknown(said)
    if code in _CREDENTIAL_CODES:
        return CredentialRefused(
            f"{what}: the archive refuses our credential: {_CREDENTIAL_CODES[code]} ({code})"
        )
    if code in _REGION_CODES or status == 301:
        return UsageError(f"{said}: the bucket is in another region")
    if status is None or status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES:
        return ArchiveUnavailable(said)
    # 405 is the answer to a version that is a delete marker.
    if status in (404, 405) or code in ("NoSuchKey", "NoSuchVersion"):
        return ObjectMissing(said)
    if status == 412:
        return ObjectChanged(said)
    return ObjectForbidden(said)


def _obstore_error(error: Exception, what: str) -> GeotagError:
    """obstore's exception has a class for some statuses and the whole answer in its text."""
    text = str(error)
    answer = re.search(r"status code: (\d{3})(.*)", text, re.DOTALL)
    if answer is None:
        return ArchiveUnavailable(f"{what}: {text.splitlines()[0]}")
    statuses = {
        FileNotFoundError: 404,
        PreconditionError: 412,
        PermissionDeniedError: 403,
        UnauthenticatedError: 401,
    }
    status = statuses.get(type(error), int(answer[1]))
    code = re.search(r"<Code>(\w+)</Code>", answer[2])
    return s3_error(status, code[1] if code else "", what)
