"""Map the errors of an S3 service to the error tree, and retry the transient ones.

boto3 gives S3's error code, urllib3 the answer that contains it; both use the same mapping.
Codes: Amazon S3 API reference, "Error responses".
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from workers.errors import (
    ArchiveUnavailable,
    BucketUnknown,
    CredentialRefused,
    GeotagError,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    Redirected,
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
# By which boto3 gets a temporary credential, from STS or IAM Identity Center.
_CREDENTIAL_OPERATIONS = {"AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials"}
_REGION_CODES = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
_TRANSIENT_CODES = {"SlowDown", "RequestTimeout", "OperationAborted", "Throttling", "InternalError"}
_TRANSIENT_STATUS = {408, 429}

# Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): clients that were refused
# together do not come back together.
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 10.0

T = TypeVar("T")


def tried(operation: Callable[[], T], tries: int, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return the operation's result; retry transient errors, up to `tries` tries in all.

    Raises the last transient error, or any other at once.
    """
    bound = _FIRST_WAIT
    for _attempt in range(1, tries):
        try:
            return operation()
        except CredentialRefused:
            raise  # a retry is refused as well
        except TransientError:
            bound = min(_LONGEST_WAIT, 2 * bound)
            sleep(random.uniform(0, bound))
    return operation()


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Raise errors of the tree in place of boto3's and urllib3's; `what` is in their message."""
    try:
        yield
    except ClientError as error:
        raise _client_error(error, what) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise UsageError(f"no credential for the archive: {error}") from error
    except ParamValidationError as error:
        raise UsageError(f"{what}: {error}") from error
    except (BotoCoreError, ResponseParserError) as error:
        raise ArchiveUnavailable(f"{what}: {error}") from error
    except HTTPError as error:
        raise ArchiveUnavailable(f"{what}: {error}") from error


def _client_error(error: ClientError, what: str) -> GeotagError:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = error.response.get("Error", {}).get("Code", "")
    meant = s3_error(status, code, what)
    if error.operation_name in _CREDENTIAL_OPERATIONS and not isinstance(meant, TransientError):
        return CredentialRefused(
            f"{what}: no temporary credential: {error.operation_name} is answered {status} {code}"
        )
    return meant


def s3_error(status: int | None, code: str, what: str) -> GeotagError:
    """Return the error for an HTTP status (None: no answer) and an S3 error code."""
    said = f"{what}: the archive answered {status or ''} {code}".rstrip()
    if code == "NoSuchBucket":
        return BucketUnknown(said)
    if code in _CREDENTIAL_CODES:
        return CredentialRefused(
            f"{what}: the archive refuses our credential: {_CREDENTIAL_CODES[code]} ({code})"
        )
    if code in _REGION_CODES:
        return UsageError(f"{said}: the bucket is in another region")
    if status is None or status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES:
        return ArchiveUnavailable(said)
    # 405 is the answer to a version that is a delete marker.
    if status == 405 or code in ("NoSuchKey", "NoSuchVersion"):
        return ObjectMissing(said)
    if status == 404:
        # S3 names the missing thing in the error code. An answer without one is a proxy's, say.
        return ArchiveUnavailable(said)
    if status == 412:
        return ObjectChanged(said)
    return ObjectForbidden(said)


def answer_error(status: int, headers: Mapping[str, str], body: bytes, what: str) -> GeotagError:
    """Return the error for the answer to a fetch."""
    found = re.search(rb"<Code>(\w+)</Code>", body)
    code = found[1].decode() if found else ""
    return redirected(status, code, headers) or s3_error(status, code, what)


def redirected(status: int, code: str, headers: Mapping[str, str]) -> GeotagError | None:
    """Return the error for a redirect, which is never followed; None for any other answer.

    S3 redirects requests for a bucket of another region, and names the region in a header (Amazon
    S3 User Guide, "Request routing").
    """
    here = {name.lower(): value for name, value in headers.items()}
    region = here.get("x-amz-bucket-region")
    if region and (code in _REGION_CODES or 300 <= status < 400):
        return Redirected(
            f"the bucket is in the region {region}: register its archive with --region {region}"
        )
    if 300 <= status < 400 and status != 304:
        host = urlsplit(here.get("location", "")).hostname or "elsewhere"
        return Redirected(
            f"the endpoint answers {status} and sends us to {host}, which is not registered"
        )
    return None
