"""The faults, and how each is injected into a site during a run."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
import pytest

from tests.faults.proxy import Changing, Cutting, Failing, Slow, Trouble, Unavailable
from tests.faults.site import WORKERS, Site, pause
from tests.faults.trial import PATIENCE, Trial, Verdict
from tests.stack_helpers import until

_PAGE = 4096
_NO_SPACE = "No space left on device"


@dataclass(frozen=True)
class Fault:
    """A fault that strikes `times` in a run.

    Args:
        name: for the table.
        inject: injects it, and returns when it is over; None for a fault of the archive's files.
        times: in one run.
        loses: processes whose chunk in work each strike may interrupt.
        poison: objects that kill their worker.
        runs: of the source, until all is done.
        early: strikes as soon as the command has started.
    """

    name: str
    inject: Callable[[Trial], None] | None
    times: int = 1
    loses: int = 0
    poison: int = 0
    runs: int = 1
    early: bool = False


def kill_pool_process(trial: Trial) -> None:
    trial.rng.choice(trial.site.pool()).kill()


def kill_worker(trial: Trial) -> None:
    """Kill a worker with its process group, as an operator or the kernel would."""
    worker = trial.rng.choice(trial.site.workers())
    os.killpg(worker.pid, signal.SIGKILL)


def stop_worker(trial: Trial) -> None:
    _stop_in_time(trial.rng.choice(trial.site.workers()))
    trial.site.wait_for_workers()


def restart_workers_in_turn(trial: Trial) -> None:
    for worker in trial.site.workers():
        _stop_in_time(worker)
        until(lambda: len(trial.site.workers()) == WORKERS)
        trial.site.wait_for_workers()


def _stop_in_time(worker: psutil.Process) -> None:
    """Send SIGTERM to the parent, as a supervisor does, and wait without killing it."""
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=PATIENCE)


def stop_triton(trial: Trial) -> None:
    trial.site.stop_triton()
    pause(20)
    trial.site.start("triton")


def crash_postgres(trial: Trial) -> None:
    trial.site.crash_postgres()
    pause(trial.rng.uniform(1, 8))
    trial.site.start("postgres")


def fill_database_disk(trial: Trial) -> None:
    folder = trial.site.database_folder
    if not folder.is_mount():
        pytest.skip("a small file system for PostgreSQL can be mounted by root alone")
    log = trial.site.supervisor.folder.log("postgres")
    refused = log.read_text().count(_NO_SPACE)
    ballast = folder / "ballast"
    try:
        fill(ballast)
        until(lambda: log.read_text().count(_NO_SPACE) > refused)
        pause(trial.rng.uniform(4, 8))
    finally:
        ballast.unlink()
    trial.site.start("postgres")  # in case its supervisor has given up


def fill(ballast: Path) -> None:
    """Fill the file system with a file, to the last page."""
    with ballast.open("wb") as file:
        left = shutil.disk_usage(ballast.parent).free
        while left >= _PAGE:
            try:
                os.posix_fallocate(file.fileno(), 0, ballast.stat().st_size + left)
            except OSError:  # PostgreSQL has used some of the space in the meantime
                left //= 2


def restart_broker(trial: Trial) -> None:
    trial.site.stop("broker")
    pause(trial.rng.uniform(1, 5))
    trial.site.start("broker")


def wipe_broker(trial: Trial) -> None:
    trial.site.stop("broker")
    for data in ("valkey/appendonlydir", "rabbitmq/mnesia"):
        shutil.rmtree(trial.site.supervisor.folder.root / data, ignore_errors=True)
    trial.site.start("broker")


def kill_planner(trial: Trial) -> None:
    """Kill the command while it lists, and then the workers that continue its plan."""
    site, rng = trial.site, trial.rng
    with site.proxy.making(Slow(lambda: 1.0)):
        trial.until_planning()
        pause(rng.uniform(0, 1))
        trial.kill_command()
        pause(rng.uniform(0, 3))
        site.kill("worker-planning")
    trial.until_done(rng.uniform(0.05, 0.5))
    site.kill("worker-control")


def kill_beat(trial: Trial) -> None:
    """Kill beat and the command, so that only ticks of a restarted beat publish chunks."""
    trial.kill_command()
    trial.site.kill("beat")


def make_trouble(trial: Trial, trouble: Trouble, seconds: float) -> None:
    """Let the proxy answer badly for so long, and until at least one request was affected."""
    proxy = trial.site.proxy
    before = proxy.troubled
    with proxy.making(trouble):
        pause(seconds)
        until(lambda: proxy.troubled > before)


def s3_fails(status: int) -> Callable[[Trial], None]:
    """Return a fault that answers first some requests, then all, with this status."""

    def inject(trial: Trial) -> None:
        rng = trial.rng
        make_trouble(trial, Failing(status, lambda: rng.random() < 0.4), rng.uniform(2, 4))
        make_trouble(trial, Unavailable(status), rng.uniform(2, 8))

    return inject


def s3_slow(trial: Trial) -> None:
    """Delay some answers beyond the worker's time-out."""
    rng = trial.rng

    def seconds() -> float:
        return rng.choice((0, 0, 0, rng.uniform(0.2, 3)))

    make_trouble(trial, Slow(seconds), rng.uniform(4, 8))


def s3_truncates(trial: Trial) -> None:
    make_trouble(trial, Cutting(lambda: trial.rng.random() < 0.3), trial.rng.uniform(4, 8))


def s3_changes(trial: Trial) -> None:
    """Replace ten photographs between listing and fetch; the next run processes the new ones."""
    keys = [key for key in trial.contents.files if key.endswith("-good.jpg")]
    waiting = sorted(set(keys) - trial.done_keys())
    chosen = trial.rng.sample(waiting, min(10, len(waiting)))
    paths = {f"/{trial.bucket}/{key}": key for key in chosen}

    def change(path: str) -> None:
        trial.replace(paths[path])

    with trial.site.proxy.making(Changing(change, set(paths))):
        trial.until_done(1)


FAULTS = (
    Fault("pool process killed", kill_pool_process, times=3, loses=1),
    Fault("worker killed", kill_worker, times=2, loses=1),
    Fault("planner killed", kill_planner, early=True),
    Fault("beat killed", kill_beat, times=2),
    Fault("worker told to stop", stop_worker, times=2),
    Fault("all workers restarted in turn", restart_workers_in_turn),
    Fault("Triton stopped for 20 s", stop_triton, loses=WORKERS),
    Fault("PostgreSQL stopped in immediate mode", crash_postgres, loses=WORKERS),
    Fault("PostgreSQL's disk full", fill_database_disk, loses=WORKERS),
    Fault("broker restarted", restart_broker),
    Fault("broker wiped", wipe_broker),
    Fault("S3 answers 500", s3_fails(500)),
    Fault("S3 answers 503", s3_fails(503)),
    Fault("S3 slow", s3_slow),
    Fault("S3 truncates", s3_truncates),
    Fault("S3 object changed", s3_changes, runs=2),
    Fault("object that kills its worker", None, poison=2, loses=2),
)


def fault_named(name: str) -> Fault:
    """Return the fault of that name."""
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    return fault


def try_out(site: Site, fault: Fault, rng: Random, objects: int) -> Verdict:
    """Run over so many objects with the fault at random times; return the verdict."""
    trial = Trial(site, rng, objects, poison=fault.poison, loses=fault.loses * fault.times)
    with trial.going():
        for share in sorted(
            0 if fault.early else rng.uniform(0.05, 0.7) for _ in range(fault.times)
        ):
            trial.until_done(share)
            if fault.inject:
                trial.struck_by(fault.inject)
    for _ in range(fault.runs - 1):
        with trial.going():
            pass
    return trial.judge(fault.name)
