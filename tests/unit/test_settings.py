"""Sources of settings and their precedence, and secrets that are never shown."""

from pathlib import Path

import pytest

from db.engine import make_engine
from db.settings import DatabaseSettings
from geotag.settings import DECLARED, gather
from workers.errors import UsageError

SECRET = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Path:
    """An empty working directory with a data folder, without the caller's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GEOTAG_CHUNK_SIZE")
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("GEOTAG_DATA_DIR", str(data))
    return tmp_path


def test_environment_beats_env_file_beats_stack(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg2://u:p@127.0.0.1:{}/d"
    assert gather().database.database_url is None
    for number, path in enumerate((folder / "data" / "stack.env", folder / ".env"), 1):
        path.write_text(f"GEOTAG_DATABASE_URL={url.format(number)}\nGEOTAG_CHUNK_SIZE={number}\n")
        found = gather()
        assert found.database.database_url is not None
        assert found.database.database_url.get_secret_value() == url.format(number)
        assert found.worker.chunk_size == number
    monkeypatch.setenv("GEOTAG_CHUNK_SIZE", "3")
    assert gather().worker.chunk_size == 3
    assert gather().database.database_url == found.database.database_url


def test_empty_means_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "data" / "stack.env").write_text("GEOTAG_S3_ENDPOINT=http://127.0.0.1:1\n")
    monkeypatch.setenv("GEOTAG_S3_ENDPOINT", "")
    assert gather().worker.s3_endpoint == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GEOTAG_CHUNK_SIZE", "many"),
        ("GEOTAG_CHUNK_SIZE", "0"),
        ("GEOTAG_IN_FLIGHT", "65"),
        ("GEOTAG_WAIT_SECONDS", "-1"),
        ("GEOTAG_LOCAL_BROKER", SECRET),
        ("GEOTAG_DATABASE_URL", f"mysql://user:{SECRET}@host/d"),
        ("GEOTAG_DATABASE_POOL", SECRET),
        ("GEOTAG_BROKER_URL", f"amqp://user:{SECRET}/@host:port/v"),
        ("GEOTAG_S3_ENDPOINT", f"ftp://{SECRET}"),
        ("GEOTAG_TRITON_URL", f"http://{SECRET}"),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_wrong_value_is_named_and_never_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, where: str
) -> None:
    if where == ".env":
        (folder / ".env").write_text(f"{name}={value}\n")
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        gather()
    assert name in caught.value.message
    assert SECRET not in caught.value.message
    assert caught.value.__suppress_context__  # nor in a traceback


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "GEOTAG_DATABASE_URL": f"postgresql+psycopg2://u:{SECRET}@127.0.0.1:1/d",
        "GEOTAG_BROKER_URL": f"redis://:{SECRET}@127.0.0.1:1/0",
        "GEOTAG_S3_SECRET_KEY": SECRET,
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    found = gather()
    dumped = [part.model_dump_json() for part in (found.database, found.worker, found.stack)]
    assert SECRET not in "".join([repr(found), str(found), *dumped])
    assert found.worker.broker_url.get_secret_value() == secrets["GEOTAG_BROKER_URL"]


def test_every_setting_is_described() -> None:
    bare = [
        f"{cls.__name__}.{name}"
        for cls in DECLARED
        for name, field in cls.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_a_setting_that_two_packages_declare_is_of_one_kind() -> None:
    seen: dict[str, object] = {}
    for cls in DECLARED:
        assert cls.model_config["env_prefix"] == "GEOTAG_"
        for name, field in cls.model_fields.items():
            is_secret = "SecretStr" in str(field.annotation)
            assert seen.setdefault(name, is_secret) == is_secret, name


def test_env_file_that_is_no_utf_8_is_named_and_never_shown(folder: Path) -> None:
    (folder / ".env").write_bytes(f"GEOTAG_S3_SECRET_KEY={SECRET}é\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"\.env.*UTF-8") as caught:
        gather()
    assert SECRET not in caught.value.message
    assert caught.value.__suppress_context__


def test_wait_seconds_exceed_the_redelivery_time_of_a_killed_workers_chunk() -> None:
    """Valkey redelivers the message about ten seconds after the visibility timeout."""
    found = gather()
    assert found.command.wait_seconds > found.worker.visibility_timeout + 10


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2"])
def test_a_database_url_names_the_driver_or_not(scheme):
    url = f"{scheme}://someone:a%40b@127.0.0.1:5432/geotag"
    engine = make_engine(DatabaseSettings(database_url=url))
    assert engine.url.drivername == "postgresql+psycopg2"
    assert (engine.url.username, engine.url.password) == ("someone", "a@b")
