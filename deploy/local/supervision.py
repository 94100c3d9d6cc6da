"""The supervisor that keeps the programs running, and the way to talk to it.

One `supervisord` for each data folder, on a loopback port with a random password. Each program is
a file of its own below `supervisor.d`, so that servers and workers are added and changed apart.
"""

import os
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from deploy.errors import ServiceDown, StackNotUp
from deploy.local.folder import Folder, write_file
from deploy.local.ports import LOOPBACK, require_free
from deploy.local.program import Program
from deploy.local.strays import MARK, stop_strays
from deploy.local.supervisor_files import program_text, supervisor_text
from deploy.settings import python_prefix

START_SECONDS = 20
# What a server may know of its caller. The rest of the caller's environment (PYTHONPATH, PG*,
# LD_LIBRARY_PATH, credentials of other things) stays outside.
INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True)
class State:
    """One process as the supervisor sees it: its state in supervisor's words, and its id (or 0)."""

    name: str
    program: str
    state: str
    pid: int

    @property
    def active(self) -> bool:
        """Is there a process?"""
        return self.state in ("STARTING", "RUNNING")

    @property
    def given_up(self) -> bool:
        """Will the supervisor leave it as it is? (BACKOFF: it tries again in a moment.)"""
        return self.state in ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


@dataclass(frozen=True)
class Supervisor:
    """The supervisor of one data folder."""

    folder: Folder

    @property
    def _programs(self) -> Path:
        return self.folder.root / "supervisor.d"

    def is_running(self) -> bool:
        """Does a supervisor answer to this folder's password?"""
        if not self.folder.ports_file.exists():
            return False
        try:
            self._proxy().getPID()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> None:
        """Start the supervisor, without programs; what a killed one left is stopped first.

        Raises ServiceDown, PortTaken.
        """
        stop_strays(self.folder.root)
        port = self.folder.port("supervisor")
        require_free("the supervisor", [port], self.folder.ports_file)
        configuration = self.folder.root / "supervisord.conf"
        write_file(configuration, supervisor_text(self.folder))
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        done = subprocess.run(
            [python_prefix() / "bin" / "supervisord", "-c", configuration],
            env=inherited | {MARK: str(self.folder.root)},
            cwd="/",
            text=True,
            capture_output=True,
            check=False,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_running():
            if done.returncode != 0 or time.monotonic() > deadline:
                raise ServiceDown(
                    f"the supervisor did not start: {(done.stderr or done.stdout).strip()}",
                    f"see {self.folder.log('supervisord')}",
                )
            time.sleep(0.05)

    def shut_down(self) -> None:
        """Stop every program, the last started first, then the supervisor; wait for all."""
        if self.is_running():
            proxy = self._proxy()
            process = psutil.Process(proxy.getPID())
            proxy.shutdown()
            process.wait()  # bounded by the programs' own deadlines
        stop_strays(self.folder.root)

    def write_programs(self, programs: Iterable[Program], of: Iterable[str]) -> None:
        """Write the programs' files; those named in `of` that are not among them are removed."""
        self._programs.mkdir(exist_ok=True)
        given = {program.name: program for program in programs}
        for name in of:
            if name not in given:
                (self._programs / f"{name}.conf").unlink(missing_ok=True)
        for name, program in given.items():
            write_file(self._programs / f"{name}.conf", program_text(program, self.folder))

    def reload(self) -> None:
        """Bring a running supervisor in line with the files; a changed program is restarted."""
        proxy = self._require()
        ((added, changed, removed),) = proxy.reloadConfig()
        for name in [*changed, *removed]:
            proxy.stopProcessGroup(name)
            proxy.removeProcessGroup(name)
        for name in [*added, *changed]:
            proxy.addProcessGroup(name)

    def start_program(self, name: str) -> None:
        """Start each process of the program that is not active; returns at once."""
        proxy = self._require()
        for state in self.states(name):
            if not state.active:  # it may be about to be: BACKOFF
                try:
                    proxy.startProcess(f"{state.program}:{state.name}", False)
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode != Faults.ALREADY_STARTED:
                        raise

    def stop_program(self, name: str) -> None:
        """Stop the program's processes and wait for their end."""
        if self.states(name):
            self._require().stopProcessGroup(name)

    def states(self, program: str | None = None) -> list[State]:
        """Every process that the supervisor knows, or those of one program."""
        return [
            State(item["name"], item["group"], item["statename"], item["pid"])
            for item in self._require().getAllProcessInfo()
            if program in (None, item["group"])
        ]

    def _require(self) -> Any:
        if not self.is_running():
            raise StackNotUp
        return self._proxy()

    def _proxy(self) -> Any:
        transport = SupervisorTransport(
            "geotag",
            self.folder.secret("supervisor"),
            f"http://{LOOPBACK}:{self.folder.port('supervisor')}",
        )
        return xmlrpc.client.ServerProxy("http://supervisor", transport).supervisor
