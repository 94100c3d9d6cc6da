"""Exceptions become a message, advice and an exit code."""

import pytest

from geotag import exits, settings
from workers.errors import UsageError


def test_a_stack_of_another_user(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/data/stack.env")

    monkeypatch.setattr(settings, "DatabaseSettings", refused)
    with pytest.raises(UsageError) as raised:
        settings.gather()

    failure = exits.explain(raised.value)
    assert failure is not None
    assert failure.message == "/data/stack.env: Permission denied"
    assert "owner of the stack" in failure.advice
    assert "GEOTAG_DATA_DIR" in failure.advice
    assert failure.exit_code == exits.USAGE
