"""`geotag doctor` checks the credentials of archives."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db.archives import ArchiveRecord
from geotag.machine.doctor import _credential, _ledger
from workers.settings import WorkerSettings


@pytest.mark.parametrize(("secret", "ok"), [("secret", True), ("", False)])
def test_a_credential_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, secret: str, ok: bool
) -> None:
    monkeypatch.setenv("NAS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("NAS_SECRET_ACCESS_KEY", secret)
    context: Any = SimpleNamespace(settings=SimpleNamespace(worker=WorkerSettings()))

    check = _credential(context, ArchiveRecord("nas", "", "photos", credentials="env:NAS"))

    assert (check.name, check.ok) == ("archive nas", ok)
    assert ("NAS_SECRET_ACCESS_KEY must be set" in check.detail) is not ok
    assert ("geotag up" in check.advice) is not ok


def test_a_profile_of_which_half_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[half]\naws_access_key_id = key\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    context: Any = SimpleNamespace(settings=SimpleNamespace(worker=WorkerSettings()))

    check = _credential(context, ArchiveRecord("nas", "", "photos", credentials="profile:half"))

    assert not check.ok
    assert "geotag up" in check.advice


def test_parked_runs_are_shown_where_no_release_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.releases.active_release", lambda _engine: None)
    monkeypatch.setattr("db.archives.registered", lambda _engine: [])
    monkeypatch.setattr("db.runs.parked", lambda _engine: [(7, "planner_died: killed")])
    monkeypatch.setattr("db.schedules.failing", lambda _engine: [])
    context: Any = SimpleNamespace(engine=None)

    run = {check.name: check for check in _ledger(context)}["run 7"]

    assert not run.ok
    assert "planner_died: killed" in run.detail
    assert "geotag resume 7" in run.advice
