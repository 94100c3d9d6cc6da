import os
import stat
import sys
from pathlib import Path

import pytest

from deploy.errors import InstallFailed, MissingPackage, ServiceDown, SystemUnsuitable
from deploy.local import doctor, health, system
from deploy.settings import StackSettings

said: list[str] = []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with only the programs that a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_package_manager(programs: Path) -> None:
    with pytest.raises(MissingPackage) as raised:
        system.install_packages(["postgresql-postgis"], "PostGIS", said.append)

    assert "there is no apt-get" in raised.value.message
    assert "postgresql-postgis" in raised.value.advice


def test_no_right_to_install(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(programs / "apt-get", "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MissingPackage, match="takes root or sudo") as raised:
        system.install_packages(["postgresql-postgis"], "PostGIS", said.append)

    assert "sudo apt-get install postgresql-postgis" in raised.value.advice


def test_a_sudo_that_wants_a_password_does_not_hang(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(programs / "apt-get", "exit 0")
    script(programs / "sudo", '[ "$1" = -n ] && exit 1\nsleep 60')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(MissingPackage, match="takes root or sudo"):
        system.install_packages(["postgresql-postgis"], "PostGIS", said.append)


def test_output_of_apt_get_is_passed_on(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(programs / "apt-get", "exit 0")
    installer = tmp_path / "installer"
    script(installer, "echo 'E: Unable to locate package' >&2; exit 100")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "APT_INSTALL", installer)

    with pytest.raises(InstallFailed, match="E: Unable to locate package"):
        system.install_packages(["no-such-package"], "nothing", said.append)


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 13, 0)])
def test_python_out_of_range(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    monkeypatch.setattr(sys, "version_info", version)

    with pytest.raises(SystemUnsuitable, match="is not supported"):
        system.require_python()


@pytest.mark.parametrize(
    ("text", "version"),
    [("glibc 2.36", (2, 36)), ("glibc 2.31.9000", (2, 31)), ("musl 1.2", None), (None, None)],
)
def test_glibc(
    monkeypatch: pytest.MonkeyPatch, text: str | None, version: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: text)

    assert system.glibc_version() == version


def test_the_error_of_an_old_glibc_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "glibc_version", lambda: (2, 31))

    with pytest.raises(SystemUnsuitable, match=r"found 2\.31") as raised:
        system.require_triton_platform()

    assert "GEOTAG_TRITON_URL" in raised.value.advice


def test_the_doctor_names_every_fault_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "glibc_version", lambda: (2, 31))
    monkeypatch.setattr(doctor.postgres, "find_servers", dict)
    settings = StackSettings(data_dir=tmp_path / "data", _env_file=None, _env_prefix="NONE_")

    checks = {check.name: check for check in doctor.checks(settings)}

    assert not checks["system"].ok
    assert not checks["PostGIS"].ok
    assert "`geotag up`" in checks["triton"].advice
    assert checks["Python"].ok
    assert all(check.advice for check in checks.values() if not check.ok)
    assert not (tmp_path / "data").exists()


def test_waiting_ends_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))

    def check() -> str:
        raise ConnectionRefusedError("refused")

    with pytest.raises(ServiceDown) as raised:
        health.wait_until_healthy("postgres", check, log, seconds=0, given_up=lambda: False)

    assert "refused" in raised.value.message
    assert "line 99" in raised.value.message
    assert "line 9\n" not in raised.value.message
    assert str(log) in raised.value.advice


def test_waiting_ends_at_an_internal_error(tmp_path: Path) -> None:
    def check() -> str:
        raise TypeError("a defect")

    with pytest.raises(TypeError):
        health.wait_until_healthy("s3", check, tmp_path, seconds=9, given_up=lambda: False)
