"""Helpers of the integration tests that query the running stack."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from db.reads import ResultFilter, ResultRow, stream_results
from deploy.local import stack
from deploy.local.folder import Folder
from geotag.context import Context

PROJECT = Path(__file__).parents[1]


def upload(context: Context, bucket: str, files: Mapping[str, bytes]) -> None:
    """Upload files to the archive under their names."""
    for name, data in files.items():
        context.s3.upload(bucket, name, data)


def results(context: Context, bucket: str) -> dict[str, ResultRow]:
    """Return the recorded results of a bucket's objects, by key."""
    return {row.key: row for row in stream_results(context.engine, ResultFilter(bucket=bucket))}


def inferences(context: Context) -> int:
    """Return how many pictures Triton has located, from its counter."""
    url = Folder(context.settings.stack.data_dir).read_stack_env()["GEOTAG_TRITON_METRICS_URL"]
    with urllib.request.urlopen(url) as answer:
        lines = answer.read().decode().splitlines()
    counted = [
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith('nv_inference_count{model="translocator_')
    ]
    assert counted, "Triton does not count its inferences"
    return round(sum(counted))


def scalar(context: Context, query: str, **values: Any) -> Any:
    """Return one value from the ledger."""
    with context.engine.connect() as connection:
        return connection.execute(text(query), values).scalar_one()


def outcomes_of(context: Context, bucket: str) -> dict[str, int]:
    """Return the number of outcomes of each of a bucket's objects, by key; it should be 1."""
    query = (
        "SELECT v.key, count(o.*) FROM geotag.object_version v"
        " JOIN geotag.archive a ON a.id = v.archive_id"
        " LEFT JOIN geotag.outcome o ON o.object_version_id = v.id"
        " WHERE a.bucket = :bucket GROUP BY v.key"
    )
    with context.engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(text(query), {"bucket": bucket})}


def until(what: Callable[[], Any], *, seconds: float = 240.0) -> Any:
    """Call `what` until it returns a true value; return that value."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.1)
    return found


def parsed(done: "subprocess.CompletedProcess[str]") -> Any:
    """Return the JSON that a command printed."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def distinct_pictures(picture: bytes, count: int, *, prefix: str = "p") -> dict[str, bytes]:
    """Return JPEGs with equal pixels and distinct bytes: each has its own trailing comment."""
    return {f"{prefix}/{i:04}.jpg": picture + f"#{prefix}{i}".encode() for i in range(count)}


def with_settings(context: Context, **changes: Any) -> Context:
    """Return a copy of the context with other worker settings."""
    worker = context.settings.worker.model_copy(update=changes)
    return Context(replace(context.settings, worker=worker))


@contextmanager
def only_backfill_worker(
    context: Context, code: str, folder: Path, **environment: str
) -> Iterator[Path]:
    """Run Python code as the only backfill worker; the value is the path of its log."""
    settings = context.settings.stack
    stack.stop_service(settings, "worker-backfill")
    log = folder / "worker.log"
    with log.open("w") as file:
        worker = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            stdout=file,
            stderr=file,
            env=os.environ | environment,
        )
    try:
        yield log
    finally:
        worker.terminate()
        worker.wait(60)
        stack.start_service(settings, "worker-backfill")


def attempts(context: Context, bucket: str) -> dict[str, list[str | None]]:
    """Return the codes of each object's attempts, in order, by key."""
    query = text(
        "SELECT v.key, array_agg(t.code ORDER BY t.id) FROM geotag.attempt t"
        " JOIN geotag.object_version v ON v.id = t.object_version_id"
        " JOIN geotag.archive a ON a.id = v.archive_id WHERE a.bucket = :bucket GROUP BY v.key"
    )
    with context.engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(query, {"bucket": bucket})}
