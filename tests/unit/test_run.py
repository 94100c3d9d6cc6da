"""`geotag run`, `geotag locate` and `geotag worker` refuse wrong usage before any effect."""

from pathlib import Path
from typing import NoReturn

import pytest

from db.engine import DatabaseUrlMissing
from geotag.context import Context, make_context
from geotag.machine.worker import work
from geotag.runs.run import locate, source_of
from workers.errors import UsageError


@pytest.fixture
def stackless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Context:
    """Settings as before the first `geotag up`, with which S3 would be AWS."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOTAG_DATA_DIR", str(tmp_path / "none"))

    def touched(*_arguments: object) -> NoReturn:
        pytest.fail("S3 was touched")

    monkeypatch.setattr("workers.s3.service.S3Service.ensure_bucket", touched)
    monkeypatch.setattr("workers.s3.service.S3Service.list_objects", touched)
    monkeypatch.setattr("workers.s3.service.S3Service.upload", touched)
    monkeypatch.setattr("workers.s3.service.S3Service.head", touched)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("s3://bucket/a.jpg\n")
    return make_context()


@pytest.mark.parametrize("source", ["photos", "list.csv", "s3://bucket/prefix"])
def test_run_without_a_stack_uploads_and_lists_nothing(stackless: Context, source: str) -> None:
    with pytest.raises(DatabaseUrlMissing):
        source_of(stackless, source)


@pytest.mark.parametrize("what", ["photos/a.jpg", "s3://bucket/a.jpg"])
def test_locate_without_a_stack_uploads_and_asks_nothing(stackless: Context, what: str) -> None:
    with pytest.raises(DatabaseUrlMissing):
        locate(stackless, what)


def test_unknown_log_level_is_refused() -> None:
    with pytest.raises(UsageError, match="FOO"):
        work("backfill", 1, "FOO")
