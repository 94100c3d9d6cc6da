import json
import stat
from pathlib import Path

import pytest

from deploy.errors import StackError
from deploy.local.folder import Folder, write_file


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
    assert mode(folder.root) & 0o066 == 0  # root's postgres user may pass through, no more


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


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with pytest.raises(StackError, match="cannot be used") as raised:
        Folder(tmp_path / "data").create()

    assert "GEOTAG_DATA_DIR" in raised.value.advice


def test_ports_are_written_for_people(folder: Folder) -> None:
    port = folder.port("triton-grpc")

    assert json.loads(folder.ports_file.read_text()) == {"triton-grpc": port}
