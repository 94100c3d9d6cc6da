"""Check the machine and the stack, each thing by itself, with advice where one fails.

`checks` is read-only: it installs nothing, starts nothing and creates no folder.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.errors import MissingPackage, ServiceDown, StackError, StackNotUp, SystemUnsuitable
from deploy.local import broker, health, postgres, system
from deploy.local.folder import Folder
from deploy.local.ports import require_free
from deploy.local.program import Service
from deploy.local.services import ask_existing, existing_servers, own_services
from deploy.local.strays import find_strays
from deploy.local.supervision import Supervisor
from deploy.settings import StackSettings

# The Triton environment takes 0.5 GB, a fresh stack 0.3 GB; databases need room to grow.
FREE_BYTES = 3 * 10**9


@dataclass(frozen=True)
class Check:
    """One line of `geotag doctor`. `advice` is empty where the check passed."""

    name: str
    ok: bool
    detail: str
    advice: str


def checks(settings: StackSettings) -> list[Check]:
    """Return the checks of the system, then of each server, local or existing."""
    folder = Folder(settings.data_dir)
    own = own_services(settings, folder)
    looks = list(_system_checks(own, folder))
    looks += [
        (name, partial(ask_existing, name, ask))
        for name, ask in existing_servers(settings, folder).items()
    ]
    looks += [(service.name, partial(_look, service, folder)) for service in own]
    return [_check(name, look) for name, look in looks]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look(), "")
    except StackError as error:
        return Check(name, False, error.message, error.advice)


def _system_checks(own: list[Service], folder: Folder) -> Iterator[tuple[str, Callable[[], str]]]:
    names = {service.name for service in own}
    yield "Python", _python
    yield "data folder", lambda: _data_folder(folder.root)
    if "triton" in names:
        yield "system", _triton_platform
        yield "libpython", _libpython
    if "postgres" in names:
        yield "PostGIS", _postgis
    if any(isinstance(service, broker.RabbitMQ) for service in own):
        yield "RabbitMQ", _rabbitmq


def _python() -> str:
    system.require_python()
    return platform.python_version()


def _triton_platform() -> str:
    system.require_triton_platform()
    return f"{platform.system()} {platform.machine()}, glibc {platform.libc_ver()[1]}"


def _libpython() -> str:
    if not system.has_libpython():
        raise _missing(system.libpython_name(), system.libpython_name().partition(".so")[0])
    return system.libpython_name()


def _postgis() -> str:
    servers = postgres.find_servers()
    if not servers:
        raise _missing("PostGIS", "postgresql-postgis")
    return ", ".join(f"for PostgreSQL {version}" for version in sorted(servers))


def _rabbitmq() -> str:
    if not broker.RABBITMQ_SERVER.exists():
        raise _missing("RabbitMQ", "rabbitmq-server")
    return str(broker.RABBITMQ_SERVER)


def _missing(what: str, package: str) -> MissingPackage:
    if system.can_install():
        return MissingPackage(f"{what} is not installed", "`geotag up` installs it with apt-get")
    return MissingPackage(
        f"{what} is not installed, and `geotag up` cannot install it: "
        "that takes apt-get, and root or sudo",
        f"have {package} (as Debian calls it) installed, or set the URL of an existing server",
    )


def _data_folder(root: Path) -> str:
    """Check that the folder is writable and has room."""
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SystemUnsuitable(
            f"{there} is no folder that can be written",
            "choose another folder with GEOTAG_DATA_DIR",
        )
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        raise SystemUnsuitable(
            f"{free / 1e9:.1f} GB are free at {there}; the stack takes {FREE_BYTES / 1e9:.0f} GB",
            "free some space, or choose a folder on another disk with GEOTAG_DATA_DIR",
        )
    return f"{root}, {free / 1e9:.0f} GB free"


def _look(service: Service, folder: Folder) -> str:
    """Check that a local server answers, or, if it does not run, that its ports are free."""
    supervisor, log = Supervisor(folder), folder.log(service.name)
    if supervisor.is_running():
        if any(state.active for state in supervisor.states(service.name)):
            advice = f"see {log}; `geotag down` and `geotag up` restart it"
            return health.answers(service.name, service.check, advice)
        require_free(service.name, service.ports, folder.ports_file)
        raise ServiceDown(f"{service.name} is not running", f"`geotag up` starts it; see {log}")
    if folder.ports_file.exists() and not find_strays(folder.root):
        require_free(service.name, service.ports, folder.ports_file)
    raise StackNotUp
