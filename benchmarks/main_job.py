"""Throughput of the main job on one machine, and a worker's memory over 2,000 objects.

    .venv/bin/python -m benchmarks.main_job [--objects 2000] [--photos FOLDER]

It starts its own stack in a temporary data folder with one backfill process, uploads photographs,
runs them, and samples the resident memory of the worker's pool process. A few bytes after the end
of each file make it unique, so that each is inferred. The result is printed as Markdown.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import psutil

from db import archives
from db.archives import ArchiveRecord
from db.reads import run_progress
from deploy.local import stack
from deploy.local.folder import Folder
from deploy.local.supervision import Supervisor
from geotag.context import Context
from geotag.machine.stack import up
from geotag.runs.run import source_of
from geotag.settings import gather
from workers.broker.app import BACKFILL

PROJECT = Path(__file__).parent.parent
EARLY = (
    200  # objects after which memory is first looked at (issue: "within 10 % of that after 200")
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--objects", type=int, default=2000)
    arguments.add_argument("--photos", type=Path, default=PROJECT.parent / "shared/photos/camera")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="geotag-benchmark-") as folder:
        os.environ |= {
            "GEOTAG_DATA_DIR": folder,
            "GEOTAG_WORKER_PROCESSES": "1",
            "GEOTAG_TRITON_VENV": str(PROJECT / ".geotag" / "triton-venv"),
        }
        settings = gather()
        try:
            context, _running = up(settings, print)
            measure(context, given.objects, given.photos)
        finally:
            stack.delete(settings.stack)


def measure(context: Context, objects: int, photos: Path) -> None:
    """Upload, run, sample, print."""
    pictures = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    context.s3.ensure_bucket("benchmark")
    endpoint = context.settings.worker.s3_endpoint or ""
    archives.add(
        context.engine, ArchiveRecord("benchmark", endpoint, "benchmark", allow_private=True)
    )

    def put(numbered: tuple[int, bytes]) -> None:
        number, picture = numbered
        context.s3.upload("benchmark", f"{number:06}.jpg", picture + f"#{number}".encode())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, enumerate(islice(cycle(pictures), objects))))
    mean_kb = statistics.mean(map(len, pictures)) / 1e3
    started = time.monotonic()
    source = source_of(context, "s3://benchmark/")
    publisher = context.publisher()
    planned = context.planner().plan(source, BACKFILL, publish=publisher.top_up)
    samples = list(sample(context, planned.run_id))
    seconds = time.monotonic() - started
    (progress,) = run_progress(context.engine, planned.run_id)
    early = statistics.median(rss for done, rss in samples if EARLY <= done < EARLY + 200)
    late = statistics.median(rss for done, rss in samples if done >= objects - 200)
    print(
        f"# The main job\n\n{datetime.now(UTC):%Y-%m-%d}, {platform.machine()},"
        f" {psutil.cpu_count()} cores, one backfill process, release untrained, Triton on the"
        f" same machine.\n{len(pictures)} distinct photographs, {mean_kb:,.0f} KB in the mean,"
        f" repeated to {objects} objects with distinct bytes.\n\n| what | measured |\n|---|---|"
    )
    print(f"| outcomes | {progress.geotagged} geotagged, {progress.failed} failed |")
    print(f"| objects a second, listing to last row | {objects / seconds:.1f} |")
    print(f"| worker memory after {EARLY} objects (median RSS) | {early / 1e6:.0f} MB |")
    print(f"| worker memory after {objects} objects | {late / 1e6:.0f} MB |")
    print(f"| change | {late / early - 1:+.1%} |")
    curve = ", ".join(
        f"{max((r for d, r in samples if start <= d < start + 200), default=0) / 1e6:.0f}"
        for start in range(0, objects, 200)
    )
    print(f"| highest in each 200 objects, MB | {curve} |")
    print(f"| highest sample | {max(rss for _done, rss in samples) / 1e6:.0f} MB |")


def sample(context: Context, run_id: int) -> Iterator[tuple[int, int]]:
    """Yield (objects done, resident bytes of the pool process) until the run is finished."""
    folder = Folder(context.settings.stack.data_dir)
    (parent,) = (s.pid for s in Supervisor(folder).states("worker-backfill"))
    (child,) = psutil.Process(parent).children()
    while True:
        (progress,) = run_progress(context.engine, run_id)
        yield progress.done, child.memory_info().rss
        if progress.finished:
            return
        time.sleep(0.25)


if __name__ == "__main__":
    main()
