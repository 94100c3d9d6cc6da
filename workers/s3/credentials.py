"""Resolve an archive's credential reference.

The ledger stores the reference; only this process holds the secret.

| reference | the credential is |
|---|---|
| `settings` | GEOTAG_S3_ACCESS_KEY and GEOTAG_S3_SECRET_KEY, for GEOTAG_S3_ENDPOINT and no other |
| `chain` | boto3's own chain: its environment variables, its files, the machine's role |
| `profile:NAME` | that profile of boto3's files |
| `role:ARN` | that role, assumed with the credential of boto3's own chain, and renewed |
| `env:PREFIX` | PREFIX_ACCESS_KEY_ID, PREFIX_SECRET_ACCESS_KEY and, if set, PREFIX_SESSION_TOKEN |
"""

import os
from collections.abc import Mapping

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import ProfileNotFound

from workers.errors import UsageError
from workers.settings import WorkerSettings


def session_of(reference: str, region: str, settings: WorkerSettings) -> boto3.Session:
    """Return a session with the credential that a reference names.

    Raises:
        UsageError: this process does not have it; the message says what to set.
    """
    kind, _colon, name = reference.partition(":")
    if kind == "settings":
        secret = settings.s3_secret_key
        return boto3.Session(
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            region_name=region,
        )
    if kind == "profile":
        try:
            return boto3.Session(profile_name=name, region_name=region)
        except ProfileNotFound as error:
            raise UsageError(f"no credential for the archive: {error}") from error
    if kind == "env":
        return _of_environment(name, region, os.environ)
    if kind == "role":
        return _of_role(name, region)
    return boto3.Session(region_name=region)


def _of_environment(prefix: str, region: str, environment: Mapping[str, str]) -> boto3.Session:
    names = [f"{prefix}_ACCESS_KEY_ID", f"{prefix}_SECRET_ACCESS_KEY"]
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UsageError(
            f"no credential for the archive: {' and '.join(missing)} must be set where geotag and"
            " its workers run"
        )
    return boto3.Session(
        aws_access_key_id=environment[names[0]],
        aws_secret_access_key=environment[names[1]],
        aws_session_token=environment.get(f"{prefix}_SESSION_TOKEN"),
        region_name=region,
    )


class _Role(CredentialProvider):
    """Assumes a role on first use, and again before its credential expires."""

    METHOD = "assume-role"
    CANONICAL_NAME = "geotag-role"

    def __init__(self, arn: str, region: str) -> None:
        super().__init__()
        self._arn = arn
        self._region = region

    def load(self) -> DeferredRefreshableCredentials:
        own = botocore.session.get_session()
        if own.get_config_variable("region") is None:
            own.set_config_variable("region", self._region)  # STS needs one
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=own.create_client,
            source_credentials=own.get_credentials(),
            role_arn=self._arn,
            extra_args={"RoleSessionName": "geotag"},
        )
        return DeferredRefreshableCredentials(
            refresh_using=fetcher.fetch_credentials, method=self.METHOD
        )


def _of_role(arn: str, region: str) -> boto3.Session:
    if botocore.session.get_session().get_credentials() is None:
        raise UsageError(f"no credential to take the role {arn} with: set up boto3's own chain")
    session = botocore.session.get_session()
    session.register_component("credential_provider", CredentialResolver([_Role(arn, region)]))
    return boto3.Session(botocore_session=session, region_name=region)
