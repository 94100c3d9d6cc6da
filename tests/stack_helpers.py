"""What the integration tests ask of the running stack."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from db.reads import ResultFilter, ResultRow, stream_results
from deploy.local.folder import Folder
from geotag.context import Context


def upload(context: Context, bucket: str, files: Mapping[str, bytes]) -> None:
    """Put files into the archive, under their names."""
    for name, data in files.items():
        context.s3.upload(bucket, name, data)


def results(context: Context, bucket: str) -> dict[str, ResultRow]:
    """What is recorded of a bucket's objects, by key."""
    return {row.key: row for row in stream_results(context.engine, ResultFilter(bucket=bucket))}


def inferences(context: Context) -> int:
    """How many pictures Triton has located, by its own counter."""
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
    """One value out of the ledger."""
    with context.engine.connect() as connection:
        return connection.execute(text(query), values).scalar_one()


def outcomes_of(context: Context, bucket: str) -> dict[str, int]:
    """How many outcomes each of a bucket's objects has, by key: one each, if all is well."""
    query = (
        "SELECT v.key, count(o.*) FROM geotag.object_version v"
        " JOIN geotag.archive a ON a.id = v.archive_id"
        " LEFT JOIN geotag.outcome o ON o.object_version_id = v.id"
        " WHERE a.bucket = :bucket GROUP BY v.key"
    )
    with context.engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(text(query), {"bucket": bucket})}


def until(what: Callable[[], Any], *, seconds: float = 240.0) -> Any:
    """What `what` returns once that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.1)
    return found


def parsed(done: "subprocess.CompletedProcess[str]") -> Any:
    """The JSON that a command printed."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def distinct_pictures(picture: bytes, count: int, *, prefix: str = "p") -> dict[str, bytes]:
    """JPEGs that decode alike and differ in their bytes: a comment after the end of the image."""
    return {f"{prefix}/{i:04}.jpg": picture + f"#{prefix}{i}".encode() for i in range(count)}


def with_settings(context: Context, **changes: Any) -> Context:
    """The same context with other worker settings."""
    worker = context.settings.worker.model_copy(update=changes)
    return Context(replace(context.settings, worker=worker))
