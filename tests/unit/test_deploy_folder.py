import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.errors import StackError
from deploy.local import stack
from deploy.local.folder import Folder, write_file
from deploy.settings import StackSettings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "data")
    folder.create()
    return folder


def test_ports_and_secrets_stay_the_same(folder: Folder) -> None:
    ports = {name: folder.port(name) for name in ("postgres", "s3", "broker")}
    password = folder.secret("postgres")

    again = Folder(folder.root)

    assert {name: again.port(name) for name in ports} == ports
    assert len(set(ports.values())) == 3
    assert again.secret("postgres") == password


def test_two_folders_share_nothing(tmp_path: Path) -> None:
    one, two = Folder(tmp_path / "one"), Folder(tmp_path / "two")
    one.create()
    two.create()

    assert one.key != two.key
    assert one.secret("postgres") != two.secret("postgres")


def test_what_holds_secrets_is_for_its_owner_only(folder: Folder) -> None:
    folder.secret("postgres")
    folder.write_stack_env({"GEOTAG_DATABASE_URL": "postgresql+psycopg2://a:b@c/d"})

    assert mode(folder.root / "secrets.json") == 0o600
    assert mode(folder.stack_env) == 0o600
    assert mode(folder.logs) == 0o700
    assert mode(folder.root) & 0o066 == 0  # the postgres user, under root, may only traverse it


def test_a_file_that_was_readable_by_all_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("text")
    path.chmod(0o644)

    assert write_file(path, "text")
    assert mode(path) == 0o600
    assert not write_file(path, "text")


def test_stack_env_round_trip(folder: Folder) -> None:
    variables = {"GEOTAG_A": "x=y#z", "GEOTAG_B": ""}

    folder.write_stack_env(variables)

    assert folder.read_stack_env() == variables
    assert Folder(folder.root / "none").read_stack_env() == {}


@pytest.mark.parametrize("below", ["file", "file/data"])
@pytest.mark.parametrize(
    "command", [stack.down, stack.delete, lambda s: stack.up(s, Path("models"))]
)
def test_a_data_folder_that_is_a_file(
    tmp_path: Path, below: str, command: Callable[[StackSettings], object]
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StackError, match="cannot be used") as raised:
        command(StackSettings(data_dir=tmp_path / below, _env_file=None))

    assert "GEOTAG_DATA_DIR" in raised.value.advice


@pytest.mark.parametrize("text", ['{"postgres": 20001,}', "[]", "\udcff"])
def test_a_damaged_file_is_named_in_the_error(folder: Folder, text: str) -> None:
    for name, ask in (("ports.json", folder.port), ("secrets.json", folder.secret)):
        (folder.root / name).write_text(text, errors="surrogateescape")

        with pytest.raises(StackError, match=f"{name} cannot be read") as raised:
            ask("postgres")

        assert raised.value.advice.startswith("mend it")


def test_only_a_stack_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "lock").mkdir()  # as /var has
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "empty").mkdir()

    for folder in (tmp_path, tmp_path / "empty"):
        with pytest.raises(StackError, match="nothing was deleted"):
            stack.delete(StackSettings(data_dir=folder, _env_file=None))

    assert (tmp_path / "photo.jpg").exists()
    assert (tmp_path / "empty").exists()


def test_a_stack_that_cannot_be_deleted_wholly_is_reported(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StackSettings(data_dir=folder.root, _env_file=None)
    (folder.root / "postgres" / "another's").mkdir(parents=True)
    really = shutil.rmtree

    def refuses_another_s(path: Path, ignore_errors: bool) -> None:
        if not list(path.rglob("another's")):
            really(path, ignore_errors)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuses_another_s)
        with pytest.raises(StackError, match="postgres could not be deleted completely"):
            stack.delete(settings)
    assert folder.is_made()  # otherwise the owner of the rest could not continue

    stack.delete(settings)
    assert not folder.root.exists()
    stack.delete(settings)  # nothing to do, and no error

    (folder.root / "triton-venv").mkdir(parents=True)
    (folder.root / ".triton-venv.lock").touch()
    stack.delete(settings)
    assert not folder.root.exists()


def test_a_stack_around_the_home_or_the_working_directory_is_not_deleted(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StackSettings(data_dir=folder.root, _env_file=None)
    with monkeypatch.context() as patched:
        patched.setenv("HOME", str(folder.root))
        with pytest.raises(StackError, match="nothing was deleted"):
            stack.delete(settings)
    monkeypatch.chdir(folder.logs)
    with pytest.raises(StackError, match="nothing was deleted"):
        stack.delete(settings)
    assert folder.logs.exists()


def test_ports_are_formatted_for_people(folder: Folder) -> None:
    port = folder.port("triton-grpc")

    assert json.loads(folder.ports_file.read_text()) == {"triton-grpc": port}
