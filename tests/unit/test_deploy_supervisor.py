import configparser
import shlex
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.datatypes import dict_of_key_value_pairs
from supervisor.options import UnhosedConfigParser

from deploy.errors import StackError
from deploy.local.folder import Folder
from deploy.local.program import Program
from deploy.local.stack import worker_programs
from deploy.local.supervision import Supervisor
from deploy.local.supervisor_files import environment_list, ini, program_text, supervisor_text
from deploy.settings import StackSettings

expressible = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="'\"").filter(
        str.isprintable
    )
).filter(lambda value: not any(f" {comment}" in value for comment in ";#"))


@given(st.dictionaries(st.from_regex(r"\A[A-Z_]{1,9}\Z"), expressible, max_size=4))
def test_supervisor_reads_back_the_environment(variables: dict[str, str]) -> None:
    parser = UnhosedConfigParser()
    parser.read_string(ini({"program:worker": {"environment": environment_list(variables)}}))
    # supervisor expands %(…)s before it splits the list.
    text = parser["program:worker"]["environment"].replace("%%", "%")

    assert dict_of_key_value_pairs(text) == variables


@pytest.mark.parametrize(
    "value", ["a\nb", "both ' and \"", 'ends "so"', "'", "a\r", "a #b", "a ;b", "\udcff"]
)
def test_unwritable_variables_are_refused_without_their_value(value: str) -> None:
    with pytest.raises(StackError) as raised:
        environment_list({"GEOTAG_PASSWORD": value})

    assert "GEOTAG_PASSWORD" in raised.value.message
    assert value not in raised.value.message + raised.value.advice


def test_a_program_with_odd_names(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "100 % mine")
    folder.create()
    command = ("/bin/a b", "--path=100%", "it's")
    program = Program(name="worker", command=command, directory=folder.root, copies=2)

    parser = configparser.RawConfigParser()
    parser.read_string(program_text(program, folder))
    options = {key: value.replace("%%", "%") for key, value in parser["program:worker"].items()}

    assert tuple(shlex.split(options["command"])) == command
    assert options["directory"] == str(folder.root)
    assert options["stdout_logfile"] == str(folder.log("worker-%(process_num)d"))
    assert options["numprocs"] == "2"
    assert "user" not in options


def test_workers_get_our_settings_and_the_credentials_of_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "GEOTAG_PATIENCE": "5",
        "AWS_PROFILE": "reader",
        "NAS_ACCESS_KEY_ID": "key",
        "NAS_SECRET_ACCESS_KEY": "a%b/c+d==",
        "NAS_SESSION_TOKEN": "token",
    }
    kept_out = {"PGPASSWORD": "x", "NAS_PASSWORD": "x", "_ACCESS_KEY_ID": "x", "PYTHONPATH": "x"}
    for name, value in (given | kept_out).items():
        monkeypatch.setenv(name, value)

    settings = StackSettings(data_dir=tmp_path, _env_file=None)
    workers = worker_programs(settings, Folder(tmp_path))

    for program in workers:
        assert given.items() <= program.environment.items()
        assert not kept_out.keys() & program.environment.keys()
        assert "a%b" not in " ".join(program.command)
    Supervisor(Folder(tmp_path)).write_programs(workers, of=())
    files = list((tmp_path / "supervisor.d").iterdir())
    assert len(files) == len(workers)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_supervisor_listens_on_loopback_with_a_password(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()

    parser = configparser.RawConfigParser()
    parser.read_string(supervisor_text(folder))

    assert parser["inet_http_server"]["port"] == f"127.0.0.1:{folder.port('supervisor')}"
    assert parser["inet_http_server"]["password"] == folder.secret("supervisor")
    assert len(folder.secret("supervisor")) == 40
