"""The stack under test: the real servers, one broker, three workers, and a proxy before S3."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from deploy.local import stack
from deploy.local.folder import Folder
from deploy.local.supervision import State, Supervisor
from geotag.context import Context, make_context
from geotag.settings import gather
from tests.conftest import PROJECT
from tests.faults.proxy import Proxy
from tests.stack_helpers import inferences, until
from workers.s3.service import S3Service

WORKERS = 3
CHUNK = 4
DISK_MIB = 512
# Short, so that a fault is over soon; but on a slow machine a worker that is told to stop, and an
# inference, still come to their end.
SETTINGS = {
    "GEOTAG_WORKER_PROCESSES": str(WORKERS),
    "GEOTAG_CHUNK_SIZE": str(CHUNK),
    "GEOTAG_IN_FLIGHT": str(CHUNK),
    "GEOTAG_VISIBILITY_TIMEOUT": "10",
    "GEOTAG_PATIENCE": "5",
    "GEOTAG_SHUTDOWN_GRACE": "20",
    "GEOTAG_S3_TIMEOUT": "2",
    "GEOTAG_S3_TRIES": "3",
    "GEOTAG_TRITON_TIMEOUT": "60",
    "GEOTAG_DATABASE_TIMEOUT": "2",
    "GEOTAG_TICK_SECONDS": "1",
    "GEOTAG_LOST_AFTER": "5",
    "GEOTAG_RELEASE": "untrained",  # trivial, and always answers
    "GEOTAG_WAIT_SECONDS": "150",
}


@dataclass
class Site:
    """One running stack. Its commands and workers reach S3 through `proxy`; `s3` bypasses it."""

    broker: str
    context: Context
    s3: S3Service
    proxy: Proxy
    _before: int = field(default=0, init=False)

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor of the stack's processes."""
        return Supervisor(Folder(self.context.settings.stack.data_dir))

    def states(self, program: str) -> list[State]:
        """The processes of one program."""
        return self.supervisor.states(program)

    def workers(self) -> list[psutil.Process]:
        """The backfill workers: Celery's parent processes."""
        return [psutil.Process(state.pid) for state in self.states("worker-backfill") if state.pid]

    def pool(self) -> list[psutil.Process]:
        """The pool processes of the backfill workers."""
        return [child for worker in self.workers() for child in worker.children()]

    def kill(self, program: str) -> None:
        """Kill -9 the processes of a program, their children included."""
        for state in self.states(program):
            if state.pid:
                os.killpg(state.pid, signal.SIGKILL)

    def stop(self, service: str) -> None:
        """Stop a server in the orderly way."""
        stack.stop_service(self.context.settings.stack, service)

    def start(self, service: str) -> None:
        """Start a server and wait until it answers."""
        stack.start_service(self.context.settings.stack, service)

    def wait_for_workers(self) -> None:
        """Wait until every worker runs (again)."""
        until(lambda: all(state.state == "RUNNING" for state in self.states("worker-backfill")))

    def inferences(self) -> int:
        """Pictures that Triton has located, by its own counter, which begins anew at each start."""
        return self._before + inferences(self.context)

    def stop_triton(self) -> None:
        """Stop Triton, and add its last inference count to the sum."""
        stopping = threading.Thread(target=self.stop, args=("triton",))
        stopping.start()
        last = 0
        while stopping.is_alive():
            try:
                last = max(last, inferences(self.context))
            except (OSError, AssertionError):
                break
        stopping.join()
        self._before += last

    def crash_postgres(self) -> None:
        """Stop PostgreSQL in immediate mode: what is in flight is lost, and no checkpoint made."""
        (state,) = self.states("postgres")
        os.kill(state.pid, signal.SIGQUIT)
        until(lambda: not psutil.pid_exists(state.pid))
        self.stop("postgres")  # the supervisor has it started again already

    @property
    def database_folder(self) -> Path:
        """Where PostgreSQL keeps its data."""
        return _database_folder(self.supervisor.folder)


@contextmanager
def running_site(broker: str) -> Iterator[Site]:
    """Yield a new site that ignores the caller's `GEOTAG_` variables."""
    data = PROJECT / f"{os.environ.get('GEOTAG_TEST_STACK', '.geotag-test')}-faults-{broker}"
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("GEOTAG_")]:
            environment.delenv(name)
        ours = {
            **SETTINGS,
            "GEOTAG_DATA_DIR": str(data),
            "GEOTAG_LOCAL_BROKER": broker,
            "GEOTAG_TRITON_VENV": str(PROJECT / ".geotag" / "triton-venv"),
        }
        for name, value in ours.items():
            environment.setenv(name, value)
        _clear(Folder(data))
        try:
            yield _start(broker, environment)
        finally:
            _keep_logs(data)
            _clear(Folder(data))


def _start(broker: str, environment: pytest.MonkeyPatch) -> Site:
    from geotag.machine.stack import up

    settings = gather()
    direct, _running = up(settings, lambda line: print(line, file=sys.stderr))
    _move_to_small_disk(direct)
    proxy = Proxy(str(direct.settings.worker.s3_endpoint))
    # The workers that `up` started reach S3 directly. Restart them with the proxy and the marker.
    command = (
        "env",
        f"GEOTAG_S3_ENDPOINT={proxy.url}",
        sys.executable,
        "-m",
        "tests.faults.worker",
    )
    stack.start_workers(settings.stack, command=(*command, "worker"))
    environment.setenv("GEOTAG_S3_ENDPOINT", proxy.url)
    return Site(broker, make_context(), direct.s3, proxy)


def _database_folder(folder: Folder) -> Path:
    from deploy.local.postgres import outside_folder

    inside, outside = folder.root / "postgres", outside_folder(folder) / "postgres"
    return outside if outside.exists() else inside


def _move_to_small_disk(direct: Context) -> None:
    """Put PostgreSQL's data on a file system of its own that can be filled, where we may mount."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return
    settings = direct.settings.stack
    folder = _database_folder(Folder(settings.data_dir))
    aside = folder.with_name("postgres.aside")
    stack.stop_service(settings, "postgres")
    owner = (folder.stat().st_uid, folder.stat().st_gid)
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", folder], check=False
    )
    os.chown(folder, *owner)
    subprocess.run(["cp", "-a", f"{aside}/.", folder], check=True)
    shutil.rmtree(aside)
    stack.start_service(settings, "postgres")
    assert folder.is_mount() == (mounted.returncode == 0)


def _clear(folder: Folder) -> None:
    stack.down(gather().stack)
    database = _database_folder(folder)
    if database.is_mount():
        subprocess.run(["umount", database], check=True)
    stack.delete(gather().stack)


def _keep_logs(data: Path) -> None:
    keep = data.with_name(f"{data.name}-log")
    shutil.rmtree(keep, ignore_errors=True)
    if (data / "log").is_dir():
        shutil.copytree(data / "log", keep)


def pause(seconds: float) -> None:
    """Let a fault last so long. The test does not wait for an event here."""
    time.sleep(seconds)
