"""`geotag doctor` checks the credentials of archives."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db.archives import ArchiveRecord
from geotag.machine.doctor import _credential
from workers.settings import WorkerSettings


@pytest.mark.parametrize(("secret", "ok"), [("secret", True), ("", False)])
def test_a_credential_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, secret: str, ok: bool
) -> None:
    monkeypatch.setenv("NAS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("NAS_SECRET_ACCESS_KEY", secret)
    now: Any = SimpleNamespace(settings=SimpleNamespace(worker=WorkerSettings()))

    check = _credential(now, ArchiveRecord("nas", "", "photos", credentials="env:NAS"))

    assert (check.name, check.ok) == ("archive nas", ok)
    assert ("NAS_SECRET_ACCESS_KEY must be set" in check.detail) is not ok
    assert ("geotag up" in check.advice) is not ok


def test_a_profile_of_which_half_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[half]\naws_access_key_id = key\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    now: Any = SimpleNamespace(settings=SimpleNamespace(worker=WorkerSettings()))

    check = _credential(now, ArchiveRecord("nas", "", "photos", credentials="profile:half"))

    assert not check.ok
    assert "geotag up" in check.advice
