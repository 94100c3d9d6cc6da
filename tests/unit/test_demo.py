"""`geotag demo` when the packages with its photographs cannot be downloaded."""

import sys
from pathlib import Path

import pytest

from deploy.errors import InstallFailed
from geotag.machine import demo


@pytest.fixture
def pip_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python whose pip fails, in a folder with a space in its name; records its arguments."""
    folder = tmp_path / "my project"
    folder.mkdir()
    python = folder / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/asked"\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    return folder / "asked"


def test_failed_download_is_explained(pip_refuses: Path, tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"samples\.txt could not be downloaded") as refused:
        demo.sample_folders(tmp_path)
    assert "geotag demo FOLDER" in refused.value.advice
    *_, requirements = pip_refuses.read_text().splitlines()
    assert Path(requirements).is_file()  # whatever the working directory
    assert not (tmp_path / "samples").exists()
