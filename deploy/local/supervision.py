"""The supervisor, which keeps the programs running, and its client.

Each data folder has one `supervisord`, on a loopback port with a random password. Each program is
a file in `supervisor.d`, so that servers and workers can be changed independently.
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
# Variables of the caller that servers inherit. Others (PYTHONPATH, PG*, LD_LIBRARY_PATH,
# credentials of other programs) are not passed on.
INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True)
class State:
    """A process in the supervisor: its state by supervisor's name, and its process id or 0."""

    name: str
    program: str
    state: str
    pid: int

    @property
    def active(self) -> bool:
        """Whether there is a process."""
        return self.state in ("STARTING", "RUNNING")

    @property
    def given_up(self) -> bool:
        """Whether the supervisor no longer tries to start it. In BACKOFF it still does."""
        return self.state in ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


@dataclass(frozen=True)
class Supervisor:
    """The supervisor of one data folder."""

    folder: Folder

    @property
    def _programs(self) -> Path:
        return self.folder.root / "supervisor.d"

    def is_running(self) -> bool:
        """Return whether a supervisor accepts this folder's password."""
        if not self.folder.ports_file.exists():
            return False
        try:
            self._proxy().getPID()
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> None:
        """Start the supervisor, without programs, after stopping what a killed one left.

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
        """Stop every program, in reverse order, then the supervisor, and wait for them."""
        if self.is_running():
            proxy = self._proxy()
            process = psutil.Process(proxy.getPID())
            proxy.shutdown()
            process.wait()  # the programs' own deadlines bound it
        stop_strays(self.folder.root)

    def write_programs(self, programs: Iterable[Program], of: Iterable[str]) -> None:
        """Write the programs' files. Delete the files of those in `of` that are not given."""
        self._programs.mkdir(exist_ok=True)
        given = {program.name: program for program in programs}
        for name in of:
            if name not in given:
                (self._programs / f"{name}.conf").unlink(missing_ok=True)
        for name, program in given.items():
            write_file(self._programs / f"{name}.conf", program_text(program, self.folder))

    def reload(self) -> None:
        """Make a running supervisor read the files again. Changed programs are restarted."""
        proxy = self._require()
        ((added, changed, removed),) = proxy.reloadConfig()
        for name in [*changed, *removed]:
            proxy.stopProcessGroup(name)
            proxy.removeProcessGroup(name)
        for name in [*added, *changed]:
            proxy.addProcessGroup(name)

    def start_program(self, name: str) -> None:
        """Start the program's processes that are not active, without waiting."""
        proxy = self._require()
        for state in self.states(name):
            if not state.active:  # in BACKOFF it may have started since
                try:
                    proxy.startProcess(f"{state.program}:{state.name}", False)
                except xmlrpc.client.Fault as fault:
                    if fault.faultCode != Faults.ALREADY_STARTED:
                        raise

    def stop_program(self, name: str) -> None:
        """Stop the program's processes, and wait for them."""
        if self.states(name):
            self._require().stopProcessGroup(name)

    def states(self, program: str | None = None) -> list[State]:
        """Return all processes of the supervisor, or those of one program."""
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
