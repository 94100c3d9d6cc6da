"""The two clients of one S3 service, with the same credential and neither retrying by itself.

They are made when first used, because neither survives a fork: boto3's shares its connections with
the parent, and obstore's threads stay behind.
"""

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from workers.errors import UsageError
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECTIONS = 64  # at least the threads of a process: beyond that they would wait for each other


class S3Clients:
    """boto3's client and obstore's, one for each bucket; both are safe to share between threads."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._timeout = timedelta(seconds=settings.s3_timeout)
        self._lock = threading.Lock()
        self._session: boto3.Session | None = None
        self._s3: S3Client | None = None
        self._stores: dict[str, S3Store] = {}

    @property
    def s3(self) -> "S3Client":
        """boto3's client. Its timeout is for connecting and for each read."""
        with self._lock:
            if self._s3 is None:
                self._s3 = self._new_s3()
            return self._s3

    def store(self, bucket: str) -> S3Store:
        """obstore's client for a bucket. Its timeout is for a whole request, body and all.

        Raises UsageError where there is no credential.
        """
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._new_store(bucket)
            return self._stores[bucket]

    def _new_s3(self) -> "S3Client":
        config = Config(
            connect_timeout=self._settings.s3_timeout,
            read_timeout=self._settings.s3_timeout,
            retries={"total_max_attempts": 1},
            max_pool_connections=_CONNECTIONS,
            s3={"addressing_style": "path" if self._settings.s3_endpoint else "auto"},
            # Services other than AWS do not all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        endpoint = self._settings.s3_endpoint
        return self._credentials().client("s3", endpoint_url=endpoint, config=config)

    def _new_store(self, bucket: str) -> S3Store:
        session = self._credentials()
        if session.get_credentials() is None:
            raise UsageError("no credential for the archive: set GEOTAG_S3_ACCESS_KEY")
        return S3Store(
            bucket,
            endpoint=self._settings.s3_endpoint,
            region=self._settings.s3_region,
            credential_provider=Boto3CredentialProvider(session),
            client_options={
                "allow_http": True,
                "connect_timeout": self._timeout,
                "timeout": self._timeout,
            },
            retry_config={"max_retries": 0},
        )

    def _credentials(self) -> boto3.Session:
        """The session, which is not safe to share: the caller holds the lock."""
        if self._session is None:
            secret = self._settings.s3_secret_key
            self._session = boto3.Session(
                aws_access_key_id=self._settings.s3_access_key,
                aws_secret_access_key=secret.get_secret_value() if secret else None,
                region_name=self._settings.s3_region,
            )
        return self._session
