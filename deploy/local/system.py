"""Requirements on the machine, and installation of missing Debian packages."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path

from deploy.errors import InstallFailed, MissingPackage, SystemUnsuitable
from deploy.local.program import Report

APT_INSTALL = Path(__file__).parents[1] / "apt-install.sh"
# Triton's Python backend has a stub for CPython 3.13 too. But it passes empty tensors with numpy 2,
# and numpy 1 does not exist for 3.13.
PYTHON_RANGE = ((3, 11), (3, 13))
GLIBC = (2, 35)  # What the tritonserver binary of nvidia-pytriton 0.7.0 was linked against.


def require_triton_platform() -> None:
    """Raise SystemUnsuitable unless this is Linux on x86-64 with a glibc that Triton runs on."""
    advice = "set GEOTAG_TRITON_URL to a Triton server that runs elsewhere or in a container"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SystemUnsuitable(
            f"the Triton package is for Linux on x86-64; this is {platform.system()} on "
            f"{platform.machine()}",
            advice,
        )
    version = glibc_version()
    if version is None or version < GLIBC:
        found = "none" if version is None else ".".join(map(str, version))
        raise SystemUnsuitable(
            f"Triton needs glibc 2.35 or newer; found {found}",
            f"use Debian 12, Ubuntu 22.04 or newer, or {advice}",
        )


def glibc_version() -> tuple[int, int] | None:
    """Return glibc's version, such as (2, 36), or None if the C library is another."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except ValueError:
        return None
    name, _, version = text.partition(" ")
    major, _, minor = version.partition(".")
    return (int(major), int(minor.partition(".")[0])) if name == "glibc" else None


def require_python() -> None:
    """Raise SystemUnsuitable if this Python is too old or too new."""
    low, high = PYTHON_RANGE
    if not low <= sys.version_info[:2] < high:
        raise SystemUnsuitable(
            f"Python {platform.python_version()} is not supported",
            f"use Python {low[0]}.{low[1]} or newer, below {high[0]}.{high[1]}",
        )


def own_libpython() -> Path | None:
    """Return the interpreter's own shared library, if it has one (pyenv, conda, uv).

    It fits the interpreter's standard library better than the system's does.
    """
    library = Path(sys.base_prefix) / "lib" / libpython_name()
    return library if library.exists() else None


def libpython_name() -> str:
    """Return the name of the library that Triton's stub for this interpreter loads."""
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"


def has_libpython() -> bool:
    """Return whether the interpreter's shared library is installed."""
    if own_libpython() is not None:
        return True
    found = find_library(f"python{sys.version_info.major}.{sys.version_info.minor}")
    return found == libpython_name()


def install_packages(packages: Sequence[str], reason: str, report: Report) -> None:
    """Install Debian packages, as root or through sudo, without starting their services.

    Raises MissingPackage if there is no apt-get or no right to use it, InstallFailed if apt-get
    fails.
    """
    names = " ".join(packages)
    command = [*_as_root(names, reason), str(APT_INSTALL), *packages]
    report(f"installing {names} with apt-get ({reason})")
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise InstallFailed(
            f"apt-get could not install {names}: " + " / ".join(lines[-3:]),
            f"run `apt-get update && apt-get install {names}` as root and see what it says",
        )


def can_install() -> bool:
    """Return whether apt-get exists and can be run as root."""
    root = os.geteuid() == 0 or shutil.which("sudo") is not None
    return root and shutil.which("apt-get") is not None


def _as_root(names: str, reason: str) -> list[str]:
    """Return the prefix of a command that root must run."""
    if shutil.which("apt-get") is None:
        raise MissingPackage(
            f"{reason}: it is not installed, and there is no apt-get to install it with",
            f"install what your system calls {names}, or set the URL of an existing server",
        )
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    # Without a terminal nobody can type a password, and sudo must not wait for one.
    asks = [] if sys.stdin is not None and sys.stdin.isatty() else ["-n"]
    if sudo and subprocess.run([sudo, *asks, "true"], check=False).returncode == 0:
        return [sudo, *asks]
    raise MissingPackage(
        f"{reason}: it is not installed, and installing it takes root or sudo",
        f"run `sudo apt-get install {names}`, then try again",
    )
