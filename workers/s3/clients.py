"""The two clients of one S3 service: urllib3 for fetches, boto3 for everything else.

Fetches by urllib3, with botocore's signature, cost a third of boto3's and send every key unchanged
(docs/decisions/0016-urllib3-fetches.md). Neither client retries or follows redirects, and neither
uses the proxies of the environment: a proxy would choose the address that is connected to.

Clients are made on first use. A fork would share their connections between processes.
"""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import boto3
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from urllib3.connection import HTTPSConnection

from db.archives import ArchiveRecord
from workers.errors import UsageError
from workers.s3.credentials import session_of
from workers.s3.endpoints import check_address, check_endpoint
from workers.s3.errors import redirected
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 5.0  # TCP sends a lost SYN again after 1 s and 3 s
_CONNECTIONS = 64  # the most threads of a process: with fewer they would wait for each other


@dataclass(frozen=True)
class S3Access:
    """An S3 service as an archive is registered to use it; `endpoint` `""` is AWS itself."""

    endpoint: str
    region: str
    credentials: str
    allow_private: bool

    @property
    def is_checked(self) -> bool:
        """Whether its address must be public. The addresses of AWS are not checked."""
        return bool(self.endpoint) and not self.allow_private


def access_of(settings: WorkerSettings, archive: ArchiveRecord | None = None) -> S3Access:
    """Return how to reach an archive's service, or that of the settings."""
    if archive is None:
        ours = settings.s3_endpoint or ""
        return S3Access(ours, settings.s3_region, "settings", allow_private=True)
    return S3Access(
        archive.endpoint,
        archive.region or settings.s3_region,
        archive.credentials,
        archive.allow_private,
    )


class _CheckedConnection(HTTPSConnection):
    """A connection whose peer address is checked before any request is sent."""

    def connect(self) -> None:
        super().connect()
        assert self.sock is not None
        check_address(self.host, self.sock.getpeername()[0])


class _CheckedPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _CheckedConnection


class S3Clients:
    """boto3's client and connections for fetching; both are safe to share between threads."""

    def __init__(self, service: S3Access, settings: WorkerSettings) -> None:
        self.service = service
        self._settings = settings
        self._lock = threading.RLock()
        self._session: boto3.Session | None = None
        self._s3: S3Client | None = None
        self._pool: urllib3.HTTPConnectionPool | None = None

    @property
    def s3(self) -> "S3Client":
        """boto3's client. `s3_timeout` bounds each read."""
        with self._lock:
            if self._s3 is None:
                self._s3 = self._new_s3()
            return self._s3

    def get(
        self, bucket: str, key: str, *, version_id: str | None, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Request an object; return the answer of any status, with its body still to be read.

        Raises UsageError where there is no credential, EndpointRefused, and urllib3's errors.
        """
        pool = self._get_pool()
        path = f"/{bucket}/{quote(key, safe='/~')}"
        query = f"?{urlencode({'versionId': version_id})}" if version_id else ""
        request = AWSRequest(
            method="GET", url=f"{pool.scheme}://{_authority(pool)}{path}{query}", headers=headers
        )
        self._sign(request)
        return pool.urlopen(
            "GET",
            path + query,
            headers=dict(request.headers.items()),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )

    @property
    def _connect_timeout(self) -> float:
        return min(_CONNECT_SECONDS, self._settings.s3_timeout)

    def _sign(self, request: AWSRequest) -> None:
        with self._lock:
            credentials = self._credentials().get_credentials()
        if credentials is None:
            raise UsageError("no credential for the archive: set GEOTAG_S3_ACCESS_KEY")
        frozen = credentials.get_frozen_credentials()
        S3SigV4Auth(frozen, "s3", self.service.region).add_auth(request)

    def _get_pool(self) -> urllib3.HTTPConnectionPool:
        with self._lock:
            if self._pool is None:
                if self.service.is_checked:
                    self._check()
                url = urllib3.util.parse_url(self.s3.meta.endpoint_url)
                kinds = {
                    "http": urllib3.HTTPConnectionPool,
                    "https": _CheckedPool
                    if self.service.is_checked
                    else urllib3.HTTPSConnectionPool,
                }
                self._pool = kinds[url.scheme or ""](
                    url.host or "",
                    url.port,
                    maxsize=_CONNECTIONS,
                    timeout=urllib3.Timeout(
                        connect=self._connect_timeout, read=self._settings.s3_timeout
                    ),
                )
            return self._pool

    def _new_s3(self) -> "S3Client":
        endpoint = self.service.endpoint or None
        config = Config(
            connect_timeout=self._connect_timeout,
            read_timeout=self._settings.s3_timeout,
            retries={"total_max_attempts": 1},
            max_pool_connections=_CONNECTIONS,
            s3={"addressing_style": "path" if endpoint else "auto"},
            proxies={},
            # Services other than AWS do not all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = self._credentials().client("s3", endpoint_url=endpoint, config=config)
        # Before boto3's own handler, which would follow.
        client.meta.events.register_first("needs-retry.s3", _refuse_redirect)
        if self.service.is_checked:
            client.meta.events.register("before-send.s3", self._check)
        return client

    def _check(self, **_event: Any) -> None:
        check_endpoint(self.service.endpoint, allow_private=self.service.allow_private)

    def _credentials(self) -> boto3.Session:
        """Return the session. It is not thread-safe: the caller has the lock."""
        if self._session is None:
            ours = self._settings.s3_endpoint or ""
            if self.service.credentials == "settings" and self.service.endpoint != ours:
                raise UsageError(
                    f"the archive is at {self.service.endpoint or 'AWS'}, and the credential of the"
                    f" settings is for {ours or 'AWS'} (GEOTAG_S3_ENDPOINT)"
                )
            self._session = session_of(
                self.service.credentials, self.service.region, self._settings
            )
        return self._session


def _authority(pool: urllib3.HTTPConnectionPool) -> str:
    """Return `host` or `host:port`, as in the Host header."""
    default = {"http": 80, "https": 443}[pool.scheme]
    host = f"[{pool.host}]" if ":" in pool.host else pool.host
    return host if pool.port in (None, default) else f"{host}:{pool.port}"


def _refuse_redirect(response: Any, **_event: Any) -> None:
    """Raise Redirected for a redirect; boto3's event before it decides whether to retry."""
    if response is None:
        return
    answer, parsed = response
    error = redirected(
        answer.status_code, parsed.get("Error", {}).get("Code", ""), dict(answer.headers)
    )
    if error is not None:
        raise error
