"""Servers and workers that stop during a run: no result is lost or doubled."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from db.reads import run_progress
from deploy.local import stack
from deploy.local.folder import Folder
from deploy.local.supervision import Supervisor
from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import (
    distinct_pictures,
    inferences,
    outcomes_of,
    results,
    scalar,
    until,
    upload,
)
from workers.broker.app import BACKFILL, queued

OBJECTS = 240


def start_run(bucket: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("geotag")), "run", f"s3://{bucket}"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run in the background of a script ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_some(context: Context, bucket: str, run: "subprocess.Popen[str]") -> None:
    """Wait until the run has an outcome for some objects; show what it says if it ends before."""

    def some_done() -> bool:
        done = sum(row.state != "pending" for row in results(context, bucket).values())
        assert done or run.poll() is None, "".join(run.communicate())
        return done >= 8

    try:
        until(some_done)
    except AssertionError as error:
        run.kill()
        error.add_note("".join(run.communicate()))
        raise


def finish(context: Context, bucket: str, running: "subprocess.Popen[str]") -> None:
    """Wait for the run to end; check one outcome for each object, one geotag for each content."""
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, out + err
    assert f"{OBJECTS} geotagged" in out
    assert set(outcomes_of(context, bucket).values()) == {1}
    states = {row.state for row in results(context, bucket).values()}
    assert states == {"geotagged"}
    contents = scalar(
        context,
        "SELECT count(DISTINCT v.sha256) FROM geotag.object_version v"
        " JOIN geotag.archive a ON a.id = v.archive_id WHERE a.bucket = :bucket",
        bucket=bucket,
    )
    assert contents == OBJECTS
    doubled = "SELECT count(*) - count(DISTINCT (sha256, release_id)) FROM geotag.geotag"
    assert scalar(context, doubled) == 0


@pytest.fixture
def pictures(running: Context, bucket: str) -> str:
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], OBJECTS, prefix=bucket))
    return bucket


def test_run_survives_a_restart_of_triton(running: Context, pictures: str) -> None:
    run = start_run(pictures)
    wait_for_some(running, pictures, run)
    stack.stop_service(running.settings.stack, "triton")
    done = sum(row.state != "pending" for row in results(running, pictures).values())
    stack.start_service(running.settings.stack, "triton")
    assert done < OBJECTS, "the run was over before Triton stopped: the test shows nothing"
    finish(running, pictures, run)


def test_run_survives_a_restart_of_postgresql(running: Context, pictures: str) -> None:
    before = inferences(running)
    run = start_run(pictures)
    wait_for_some(running, pictures, run)
    postmaster = Supervisor(Folder(running.settings.stack.data_dir)).states("postgres")[0].pid
    os.kill(postmaster, signal.SIGQUIT)  # immediate mode: the state after a crash
    until(lambda: not psutil.pid_exists(postmaster))
    stack.start_service(running.settings.stack, "postgres")
    finish(running, pictures, run)
    in_flight = 2 * running.settings.worker.chunk_size
    assert inferences(running) <= before + OBJECTS + in_flight


def test_run_survives_a_killed_worker(running: Context, pictures: str) -> None:
    run = start_run(pictures)
    wait_for_some(running, pictures, run)
    for child in worker_children(running):
        child.kill()
    finish(running, pictures, run)


def worker_children(context: Context) -> list[psutil.Process]:
    """Return the pool processes of the backfill workers."""
    states = Supervisor(Folder(context.settings.stack.data_dir)).states("worker-backfill")
    return [
        child for state in states if state.pid for child in psutil.Process(state.pid).children()
    ]


def test_interrupting_the_command_does_not_stop_the_run(
    running: Context, pictures: str, geotag: Geotag
) -> None:
    stack.stop_service(running.settings.stack, "worker-backfill")
    try:
        run = start_run(pictures)
        until(lambda: queued(running.app, BACKFILL) * running.settings.worker.chunk_size >= OBJECTS)
        run.send_signal(signal.SIGINT)
        _out, err = run.communicate(timeout=60)
    finally:
        stack.start_service(running.settings.stack, "worker-backfill")
    assert run.returncode == 130
    assert "geotag status" in err
    assert "Traceback" not in err
    finish_by_rerun = geotag("run", f"s3://{pictures}")
    assert finish_by_rerun.returncode == 0, finish_by_rerun.stderr
    assert set(outcomes_of(running, pictures).values()) == {1}
    runs = [run for run in run_progress(running.engine) if pictures in run.source]
    assert len(runs) in (1, 2)
    assert all(progress.finished for progress in runs)


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("postgres", ("status",)),
        ("s3", ("run", "s3://{bucket}")),
        ("broker", ("run", "s3://{bucket}")),
    ],
)
def test_stopped_service_is_named_without_a_traceback(
    running: Context, bucket: str, geotag_process: Geotag, service: str, command: tuple[str, ...]
) -> None:
    upload(running, bucket, {"new.jpg": good_files()["plain.jpg"]})
    command = tuple(part.format(bucket=bucket) for part in command)
    stack.stop_service(running.settings.stack, service)
    try:
        done = geotag_process(*command, GEOTAG_S3_TRIES="1")
    finally:
        stack.start_service(running.settings.stack, service)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "what to do" in done.stderr
