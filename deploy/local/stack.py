"""The local stack as a whole: `up`, `start_workers`, `down`, `status`, and single services.

`up` is idempotent: it starts what does not run, after `down`, a crash, a killed supervisor or a
reboot. `deploy/local/geotag.service` starts the stack at boot.
"""

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psutil

from deploy.errors import StackError, StackNotUp
from deploy.local import postgres, triton, triton_process
from deploy.local.folder import Folder
from deploy.local.health import answers, wait_until_healthy
from deploy.local.ports import require_free
from deploy.local.program import Program, Report, Service
from deploy.local.services import ask_existing, existing_servers, own_services
from deploy.local.supervision import Supervisor
from deploy.settings import StackSettings, python_prefix

SERVERS = ("postgres", "s3", "broker", "triton")
WORKERS = (
    *("worker-backfill", "worker-interactive", "worker-control", "worker-planning"),
    "beat",
)
# The variables of the caller that workers get: our settings, boto3's, and those that an archive's
# credential env:PREFIX may name.
PASSED_ON = re.compile(
    r"(GEOTAG|AWS)_\w+|\w+_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)", re.ASCII
)
# What a worker needs after its grace period to write its results, return its chunk and exit.
WORKER_STOP_SECONDS = 15


@dataclass(frozen=True)
class Stack:
    """A running stack.

    `answers` has what each server answered, `variables` the `GEOTAG_` settings of the servers that
    we started (as `folder.stack_env` does), `psql` a command line for the local database.
    """

    folder: Folder
    answers: dict[str, str]
    variables: dict[str, str]
    psql: str | None


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `status`. `state` is "existing", or supervisor's state in lower case."""

    name: str
    state: str
    pid: int | None
    ok: bool
    detail: str


def silent(_: str) -> None:
    """Discard a report."""


def up(settings: StackSettings, model_repository: Path, *, report: Report = silent) -> Stack:
    """Start every server whose URL is not set, and wait until all answer.

    `model_repository` is the folder that Triton serves. Raises StackError.
    """
    folder = Folder(settings.data_dir)
    with folder.lock():
        existing = existing_servers(settings, folder)
        said = {name: ask_existing(name, check) for name, check in existing.items()}
        own = own_services(settings, folder, model_repository)
        for service in own:
            service.install(report)
        programs = [service.prepare(report) for service in own]
        _run(folder, own, programs, report)
        said |= _wait(folder, own, programs, report)
        variables = {key: value for service in own for key, value in service.variables().items()}
        folder.write_stack_env(variables)
    psql = next((service.psql() for service in own if isinstance(service, postgres.Postgres)), None)
    return Stack(folder, said, variables, psql)


def start_workers(
    settings: StackSettings,
    *,
    command: Sequence[str] | None = None,
    code: str = "",
    report: Report = silent,
) -> None:
    """Start the workers that do not run. Restart those whose settings or code changed.

    The database must have its schema. `command` is what a worker runs, before `--queue NAME`;
    the default is `geotag worker`. `code` identifies the version of the code. Raises StackError.
    """
    folder = Folder(settings.data_dir)
    supervisor = Supervisor(folder)
    with folder.lock():
        programs = worker_programs(settings, folder, command, code)
        supervisor.write_programs(programs, of=WORKERS)
        supervisor.reload()
        for program in programs:
            supervisor.start_program(program.name)
        for program in programs:
            _wait_running(supervisor, folder, program)
            report(f"{program.name}: {program.copies} running")


def worker_programs(
    settings: StackSettings, folder: Folder, command: Sequence[str] | None = None, code: str = ""
) -> list[Program]:
    """Return the programs of the workers, one for each queue, and of beat.

    With a worker of its own, no queue waits for the work of another.
    """
    passed = {key: value for key, value in os.environ.items() if PASSED_ON.fullmatch(key)}
    geotag = str(python_prefix() / "bin" / "geotag")
    environment = passed | folder.read_stack_env() | {"GEOTAG_DATA_DIR": str(folder.root)}
    # No program reads it. A changed value makes the supervisor restart the worker.
    environment |= {"GEOTAG_CODE": code}
    copies = {"backfill": settings.worker_processes, "interactive": 1, "control": 1, "planning": 1}
    worker = tuple(command or (geotag, "worker"))
    commands = {f"worker-{queue}": (*worker, "--queue", queue) for queue in copies}
    return [
        Program(
            name=name,
            command=run,
            directory=Path.cwd(),  # has .env
            environment=environment,
            start_seconds=20,
            stop_seconds=ceil(settings.shutdown_grace) + WORKER_STOP_SECONDS,
            copies=copies.get(name.removeprefix("worker-"), 1),
            priority=900,
        )
        for name, run in {**commands, "beat": (geotag, "beat")}.items()
    ]


def down(settings: StackSettings) -> None:
    """Stop everything and wait: workers first, PostgreSQL last. The data is kept."""
    folder = Folder(settings.data_dir)
    if not folder.is_made():
        return
    with folder.lock():
        Supervisor(folder).shut_down()
        triton_process.remove_leftovers(folder)


def delete(settings: StackSettings) -> None:
    """Stop everything and delete the data folder, databases included.

    Raises StackError if the folder has other things in it, and if something could not be deleted.
    """
    folder = Folder(settings.data_dir)
    root = folder.root.resolve()
    outside = (Path.cwd(), Path(os.environ.get("HOME", "/")), python_prefix())
    holds_others = any(place.resolve().is_relative_to(root) for place in outside)
    if holds_others or (not folder.is_made() and folder.root.exists()):
        raise StackError(
            f"{folder.root} does not look like the data folder of a stack: nothing was deleted",
            "set GEOTAG_DATA_DIR to the folder of the stack, or delete it by hand",
        )
    down(settings)
    # What identifies the folder as a stack's goes last: an interrupted call can be repeated.
    things = sorted(folder.root.glob("*"), key=folder.is_sign)
    for path in (*things, folder.root, postgres.outside_folder(folder)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if path.exists():
            raise StackError(
                f"{path} could not be deleted completely", "delete the rest of it as its owner"
            )


def status(settings: StackSettings) -> list[ServiceStatus]:
    """Return the state of each server and worker. Raises StackNotUp if none was ever started."""
    folder = Folder(settings.data_dir)
    existing = existing_servers(settings, folder)
    lines = []
    for name, check in existing.items():
        ok, detail = _try(name, check, folder)
        lines.append(ServiceStatus(name, "existing", None, ok, detail))
    supervisor = Supervisor(folder)
    checks = {service.name: service.check for service in own_services(settings, folder)}
    for state in supervisor.states():
        ok, detail = state.active, f"log: {folder.log(state.name)}"
        if state.active and state.program in checks:
            ok, detail = _try(state.name, checks[state.program], folder)
        lines.append(ServiceStatus(state.name, state.state.lower(), state.pid or None, ok, detail))
    return lines


def start_service(settings: StackSettings, name: str) -> None:
    """Start one server or worker program of a stack that is up, and wait until it answers."""
    folder = Folder(settings.data_dir)
    supervisor = Supervisor(folder)
    _require_known(supervisor, name)
    supervisor.start_program(name)
    for service in own_services(settings, folder):
        if service.name == name:
            _wait_for(supervisor, folder, service.name, service.check, seconds=300)


def stop_service(settings: StackSettings, name: str) -> None:
    """Stop one server or worker program, gracefully. `start_service` starts it again."""
    supervisor = Supervisor(Folder(settings.data_dir))
    _require_known(supervisor, name)
    supervisor.stop_program(name)


def kill_service(settings: StackSettings, name: str) -> list[int]:
    """Kill (-9) the processes of one program, like a crash. The supervisor restarts them.

    Returns their process ids.
    """
    supervisor = Supervisor(Folder(settings.data_dir))
    _require_known(supervisor, name)
    pids = [state.pid for state in supervisor.states(name) if state.pid]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def _run(folder: Folder, services: list[Service], programs: list[Program], report: Report) -> None:
    """Start the programs that do not run, after a check that their ports are free."""
    supervisor = Supervisor(folder)
    supervisor.write_programs(programs, of=SERVERS)
    if supervisor.is_running():
        supervisor.reload()
    else:
        supervisor.start()
    for service in services:
        if isinstance(service, triton.Triton):
            _stop_lame_triton(supervisor, service.name, report)
        if not all(state.active for state in supervisor.states(service.name)):
            require_free(service.name, service.ports, folder.ports_file)
            report(f"starting {service.name}")
            supervisor.start_program(service.name)


def _stop_lame_triton(supervisor: Supervisor, name: str, report: Report) -> None:
    """Stop a Triton with a dead child: the process of a model, or the watcher itself."""
    for state in supervisor.states(name):
        with contextlib.suppress(psutil.NoSuchProcess):
            if state.pid and triton_process.dead_children(psutil.Process(state.pid)):
                report(f"a process of {name} has died: it starts again")
                supervisor.stop_program(name)


def _wait(
    folder: Folder, services: list[Service], programs: list[Program], report: Report
) -> dict[str, str]:
    """Wait for each service in turn. They start in parallel."""
    supervisor = Supervisor(folder)
    said = {}
    for service, program in zip(services, programs, strict=True):
        said[service.name] = _wait_for(
            supervisor, folder, service.name, service.check, program.start_seconds
        )
        report(f"{service.name}: {said[service.name]}")
    return said


def _wait_for(
    supervisor: Supervisor, folder: Folder, name: str, check: Callable[[], str], seconds: float
) -> str:
    return wait_until_healthy(
        name,
        check,
        folder.log(name),
        seconds=seconds,
        given_up=lambda: any(state.given_up for state in supervisor.states(name)),
    )


def _wait_running(supervisor: Supervisor, folder: Folder, program: Program) -> None:
    """Wait until the supervisor reports a worker as running. It has no port to ask."""

    def check() -> str:
        states = supervisor.states(program.name)
        if all(state.state == "RUNNING" for state in states):
            return "running"
        raise ConnectionError(", ".join(f"{state.name} is {state.state}" for state in states))

    name = program.name if program.copies == 1 else f"{program.name}-0"
    wait_until_healthy(
        program.name,
        check,
        folder.log(name),
        seconds=program.start_seconds,
        given_up=lambda: any(state.state == "FATAL" for state in supervisor.states(program.name)),
    )


def _try(name: str, check: Callable[[], str], folder: Folder) -> tuple[bool, str]:
    try:
        return True, answers(name, check, f"see {folder.log(name)}")
    except StackError as error:
        return False, error.message


def _require_known(supervisor: Supervisor, name: str) -> None:
    if not supervisor.states(name):
        raise StackNotUp
