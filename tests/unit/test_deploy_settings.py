from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.local.folder import Folder
from deploy.local.services import existing_servers, own_services
from deploy.settings import StackSettings


@pytest.fixture(autouse=True)
def _no_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in StackSettings.model_fields:
        monkeypatch.delenv(f"GEOTAG_{field.upper()}", raising=False)


def test_the_data_folder_is_below_the_working_directory(tmp_path: Path) -> None:
    assert StackSettings().data_dir == tmp_path / ".geotag"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("data_dir", "~nobody-of-this-name/data", "no such user"),
        ("shutdown_grace", "inf", "finite"),
    ],
)
def test_invalid_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    monkeypatch.setenv(f"GEOTAG_{name.upper()}", value)

    with pytest.raises(ValidationError, match=why):
        StackSettings()


def test_every_field_is_described() -> None:
    assert all(field.description for field in StackSettings.model_fields.values())


def test_the_environment_overrides_the_file_and_empty_is_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("GEOTAG_TRITON_URL=file:1\nGEOTAG_LOCAL_BROKER=rabbitmq\n")
    monkeypatch.setenv("GEOTAG_TRITON_URL", "environment:1")
    monkeypatch.setenv("GEOTAG_DATABASE_URL", "")

    settings = StackSettings()

    assert settings.triton_url == "environment:1"
    assert settings.local_broker == "rabbitmq"
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "mysql://user:secret@host/name"),
        ("database_url", "postgresql+psycopg2://user:sec/ret@host:5432/name"),
        ("broker_url", "http://user:secret@host"),
        ("s3_endpoint", "host:9000/secret"),
        ("triton_url", "http://secret:8001"),
    ],
)
def test_the_error_of_a_wrong_url_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"GEOTAG_{name.upper()}", value)

    with pytest.raises(ValidationError) as raised:
        StackSettings()

    assert "should look like" in raised.value.errors()[0]["msg"]
    assert "sec" not in raised.value.errors()[0]["msg"]


def test_a_server_with_a_url_is_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = Folder(tmp_path / ".geotag")
    names = {service.name for service in own_services(StackSettings(), folder)}
    assert names == {"postgres", "s3", "broker", "triton"}

    monkeypatch.setenv("GEOTAG_DATABASE_URL", "postgresql+psycopg2://a:b@host/name")
    monkeypatch.setenv("GEOTAG_TRITON_URL", "host:8001")

    names = {service.name for service in own_services(StackSettings(), folder)}
    assert names == {"s3", "broker"}
    assert set(existing_servers(StackSettings(), folder)) == {"postgres", "triton"}


def test_our_own_url_in_the_shell_is_not_an_existing_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / ".geotag")
    folder.create()
    folder.write_stack_env({"GEOTAG_TRITON_URL": "127.0.0.1:20001"})
    monkeypatch.setenv("GEOTAG_TRITON_URL", "127.0.0.1:20001")

    assert existing_servers(StackSettings(), folder) == {}
