"""Resolve credential references: what each kind finds, and its error if it finds nothing."""

import http.server
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from db.objects import ArchiveObject
from workers.errors import CredentialRefused, UsageError
from workers.s3.clients import S3Access
from workers.s3.credentials import session_of
from workers.s3.service import S3Service
from workers.settings import WorkerSettings

SETTINGS = WorkerSettings(s3_access_key="ours", s3_secret_key=SecretStr("hidden"))


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def key_of(reference: str) -> tuple[str, str | None] | None:
    found = session_of(reference, "eu-west-1", SETTINGS).get_credentials()
    return found and (found.access_key, found.token)


def test_settings() -> None:
    assert key_of("settings") == ("ours", None)


def test_chain_never_takes_the_settings_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of("chain") is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert key_of("chain") == ("environment", None)


def test_environment_of_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPS_ACCESS_KEY_ID", "alps")
    with pytest.raises(UsageError, match="ALPS_SECRET_ACCESS_KEY") as caught:
        key_of("env:ALPS")
    assert "ALPS_ACCESS_KEY_ID" not in caught.value.message
    monkeypatch.setenv("ALPS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("ALPS_SESSION_TOKEN", "token")
    assert key_of("env:ALPS") == ("alps", "token")


def test_profile(nothing_of_this_machine: Path) -> None:
    with pytest.raises(UsageError, match="nightly"):
        key_of("profile:nightly")
    (nothing_of_this_machine / "credentials").write_text(
        "[nightly]\naws_access_key_id = profiled\naws_secret_access_key = x\n"
    )
    assert key_of("profile:nightly") == ("profiled", None)


def test_role_needs_a_credential_to_assume_it() -> None:
    with pytest.raises(UsageError, match="arn:aws:iam::1:role/x"):
        key_of("role:arn:aws:iam::1:role/x")


def test_role_is_assumed_with_the_credential_that_boto3_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        session = session_of("role:arn:aws:iam::123456789012:role/reader", "eu-west-1", SETTINGS)
        found = session.get_credentials()
        assert found is not None
        frozen = found.get_frozen_credentials()
    assert frozen.access_key not in (None, "environment", "ours")
    assert frozen.token


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (400, "ValidationError"), (403, "InvalidClientTokenId")],
)
def test_role_that_is_refused_is_no_fault_of_an_object(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """The token service has its own errors: its AccessDenied is not one of the object."""
    error = (
        f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    )

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(error)))
            self.end_headers()
            self.wfile.write(error.encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        access = S3Access(
            "http://127.0.0.1:9", "eu-west-1", "role:arn:aws:iam::123456789012:role/reader", True
        )
        service = S3Service(SETTINGS, access, sleep=lambda _seconds: None)
        obj = ArchiveObject("b", "a.jpg", "0123", 7, datetime.now(UTC))
        for ask in (lambda: service.fetch(obj, 100), lambda: service.head("b", "a.jpg")):
            with pytest.raises(CredentialRefused, match=code):
                ask()
        assert not service.reachable()
        server.shutdown()
