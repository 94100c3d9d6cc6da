"""Metrics and logs of real workers, and metrics of the real ledger."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from db.monitoring import ledger_samples
from deploy.local import stack
from geotag.context import Context
from geotag.settings import secrets_of
from tests.conftest import PROJECT, Geotag
from tests.images import good_files
from tests.stack_helpers import distinct_pictures, until, upload


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int) -> dict[str, float]:
    """Return the values by series, as Prometheus scrapes them; empty while nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@dataclass(frozen=True)
class Worker:
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def metrics(self) -> dict[str, float]:
        return asked(self.port)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]


@pytest.fixture
def worker(running: Context, tmp_path: Path) -> Iterator[Worker]:
    """The only backfill worker, with two processes and a metrics port."""
    stack.stop_service(running.settings.stack, "worker-backfill")
    port, log = free_port(), tmp_path / "worker.log"
    command = ["geotag", "worker", "--processes", "2", "--metrics-port", str(port)]
    command[0] = str(Path(sys.executable).with_name("geotag"))
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--log-level", "DEBUG"], cwd=PROJECT, stderr=file, env=os.environ
        )
    try:
        yield Worker(process, port, log)
    finally:
        process.terminate()
        process.wait(60)
        stack.start_service(running.settings.stack, "worker-backfill")


def test_worker_counts_and_logs_its_work(
    running: Context, bucket: str, geotag: Geotag, worker: Worker
) -> None:
    pictures = distinct_pictures(good_files()["plain.jpg"], 20, prefix=bucket)
    upload(running, bucket, pictures | {"bad.jpg": b"no picture", "empty.jpg": b""})

    assert geotag("run", f"s3://{bucket}").returncode == 3

    # A worker counts a chunk's objects a moment after it has written them.
    until(lambda: worker.metrics()["geotag_chunks_in_flight"] == 0)
    said = worker.metrics()
    objects = 'geotag_objects_total{{code="{}",state="{}"}}'
    assert said[objects.format("", "geotagged")] == 20
    assert said[objects.format("not_an_image", "failed")] == 1
    assert said[objects.format("empty", "failed")] == 1
    assert said["geotag_attempts_total"] == 22
    assert said["geotag_object_duration_seconds_count"] == 22
    stage = 'geotag_stage_duration_seconds_count{{stage="{}"}}'
    assert said[stage.format("fetch")] == 22
    assert said[stage.format("infer")] == 20
    assert said[stage.format("write")] >= 3  # 22 objects are three chunks of eight

    failed = [line for line in worker.lines() if "the object failed" in str(line["event"])]
    assert {line["code"] for line in failed} == {"not_an_image", "empty"}
    for line in failed:
        assert {"run", "chunk", "delivery", "object", "stage"} <= set(line)
        assert line["archive"] == bucket
    text_ = worker.log.read_text()
    for secret in secrets_of(running.settings):
        assert len(secret) < 8 or secret not in text_
    assert "Signature=" not in re.sub(r"Signature=\*\*\*", "", text_)


def test_counts_of_a_killed_process_stay_in_the_sums(
    running: Context, bucket: str, geotag: Geotag, worker: Worker
) -> None:
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], 12, prefix=bucket))
    assert geotag("run", f"s3://{bucket}").returncode == 0
    series = 'geotag_objects_total{code="",state="geotagged"}'
    before = 12
    until(lambda: worker.metrics()[series] == before)

    for child in psutil.Process(worker.process.pid).children():
        child.send_signal(signal.SIGKILL)

    assert until(lambda: worker.metrics()[series] == before)
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], 3, prefix=f"{bucket}-2"))
    assert geotag("run", f"s3://{bucket}").returncode == 0
    until(lambda: worker.metrics()[series] == before + 3)
    assert worker.metrics()[series] == before + 3


def test_metrics_of_the_ledger_count_waiting_and_failed_objects(
    running: Context, bucket: str, geotag: Geotag
) -> None:
    upload(running, bucket, {"bad.jpg": b"no picture"})
    assert geotag("run", f"s3://{bucket}").returncode == 3
    with running.engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.archive SET paused_at = now() WHERE name = :name"), {"name": bucket}
        )
        connection.execute(
            text(
                "INSERT INTO geotag.chunk (run_id, archive_id) SELECT max(r.id), a.id"
                " FROM geotag.run r, geotag.archive a WHERE a.name = :name GROUP BY a.id"
            ),
            {"name": bucket},
        )

    samples = ledger_samples(running.engine)

    mine = [s for s in samples if s.labels.get("archive") == bucket]
    assert [(s.metric, s.labels["at"], s.value) for s in mine] == [
        ("geotag_unfinished_chunks", "ledger", 1.0)
    ]
    failures = {s.labels["code"]: s.value for s in samples if s.metric == "geotag_recent_failures"}
    assert failures["not_an_image"] >= 1
    with running.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE geotag.chunk c SET finished_at = now() FROM geotag.archive a"
                " WHERE a.id = c.archive_id AND a.name = :name AND c.finished_at IS NULL"
            ),
            {"name": bucket},
        )


def test_metrics_of_the_ledger_are_served(running: Context) -> None:
    port = free_port()
    command = [str(Path(sys.executable).with_name("geotag")), "metrics", "--port", str(port)]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = until(lambda: asked(port))
            taken = subprocess.run(
                command, env=os.environ, capture_output=True, text=True, check=False
            )
        finally:
            process.terminate()
    assert said["geotag_ledger_up"] == 1
    assert said["geotag_failing_plans"] >= 0
    assert taken.returncode == 2
    assert f"--port {port}" in taken.stderr
