"""Where Alembic looks for our migrations."""

from pathlib import Path
from typing import Any

import pytest

from db import migrate


def test_checkout_in_a_folder_with_a_per_cent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "100%(here)s" / "db"
    package.mkdir(parents=True)
    monkeypatch.setattr("db.migrate.resources.files", lambda _package: package)
    connection: Any = None
    config = migrate._config(connection)
    assert config.get_main_option("script_location") == str(package / "migrations")
