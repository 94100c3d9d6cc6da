"""Planning into a real PostgreSQL: objects a second, memory, and the pending queries.

    .venv/bin/python -m benchmarks.planning [--sizes 100000 1000000]

It starts its own PostgreSQL in a temporary data folder. For each size, in a new database and a new
process, it plans a first night, in which all objects are new. It plans a second night after all
objects have an outcome; a hundredth of the keys has changed and a hundredth is gone. It then
measures the queries for pending objects by EXPLAIN ANALYZE, with a tenth of the objects pending.
The listing is synthetic; planner, chunks and ledger are real. The result is printed as Markdown.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg2
from sqlalchemy import Engine, create_engine, make_url, text

from db import archives, migrate
from db.archives import ArchiveRecord, RegisteredArchive
from db.engine import sql
from db.objects import ArchiveObject
from db.planning import ListedPage
from db.runs import Cursor
from deploy.local.folder import Folder
from deploy.local.postgres import Postgres
from workers.planning.planner import Planner
from workers.planning.sources import DONE, Source
from workers.s3.service import S3Services
from workers.settings import WorkerSettings

_PAGE = 1000
_CHUNK = 32
_EVERY = 100  # one key in so many changes, and one goes

# Of db/sql/archive_counts.sql only what it says of pending objects, and the next page of them.
_COUNT = (
    "SELECT count(*) FROM geotag.object_version v WHERE v.archive_id = :archive_id"
    " AND v.superseded_at IS NULL AND v.vanished_at IS NULL AND NOT EXISTS (SELECT FROM"
    " geotag.outcome o WHERE o.object_version_id = v.id AND o.release_id = :release_id)"
)
_NEXT = _COUNT.replace("count(*)", "v.id") + " AND v.id > :after ORDER BY v.id LIMIT 1000"


@dataclass(frozen=True)
class Night:
    """The figures of one planning: wall-clock seconds, and CPU seconds of planner and server.

    `wal` is the number of bytes that the server wrote to its write-ahead log.
    """

    what: str
    seconds: float
    planner: float
    server: float
    wal: int
    appeared: int
    changed: int
    vanished: int
    planned: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument(
        "--measure", nargs=3, metavar=("URL", "SIZE", "SERVER"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.measure:
        url, size, pid = given.measure
        print(json.dumps(measure(url, int(size), psutil.Process(int(pid)))))
        return
    with (
        tempfile.TemporaryDirectory(prefix="geotag-planning-") as folder,
        server(folder) as (url, pid),
    ):
        results = {size: in_a_process(url, size, pid) for size in given.sizes}
    print_results(results)


@contextmanager
def server(folder: str) -> Iterator[tuple[str, int]]:
    """Yield the URL and the process of a temporary PostgreSQL."""
    Path(folder).chmod(0o755)  # the cluster may have a user of its own
    postgres = Postgres(Folder(Path(folder)))
    program = postgres.prepare(lambda line: print(line, file=sys.stderr))
    running = subprocess.Popen(
        program.command, cwd=program.directory, user=program.user, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                postgres.check()
                break
            except psycopg2.OperationalError:  # it starts
                time.sleep(0.2)
        yield postgres.url, running.pid
    finally:
        running.send_signal(signal.SIGINT)  # "fast": it does not wait for its sessions
        running.wait(60)


def in_a_process(url: str, size: int, pid: int) -> dict[str, object]:
    """Run `measure` in a new process, so that its memory is measured alone."""
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE planning_{size}"))
    database = make_url(url).set(database=f"planning_{size}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.planning"),
            *("--measure", database.render_as_string(hide_password=False), str(size), str(pid)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def measure(url: str, size: int, server: psutil.Process) -> dict[str, object]:
    """Plan two nights of an archive, and query the pending objects."""
    engine = create_engine(url, pool_size=2)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH p AS (INSERT INTO geotag.partition (digest, name) VALUES ('p', 'fine')"
                " RETURNING id) INSERT INTO geotag.release (name, digest, calibrated,"
                " coarse_partition_id, middle_partition_id, fine_partition_id, manifest, active)"
                " SELECT 'r', 'r', false, id, id, id, '{}', true FROM p"
            )
        )
    archive = archives.add(engine, ArchiveRecord("planning", "", "planning"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nights = [night(engine, archive, size, server, changed=False)]
    finish(engine, size)
    nights.append(night(engine, archive, size, server, changed=True))
    return {
        "nights": [asdict(one) for one in nights],
        "start_kb": before,
        "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "queries": queries(engine, archive.id),
    }


def night(
    engine: Engine,
    archive: RegisteredArchive,
    size: int,
    server: psutil.Process,
    *,
    changed: bool,
) -> Night:
    """Plan the archive once."""

    def pages(_cursor: Cursor | None) -> Iterator[ListedPage]:
        for start in range(0, size, _PAGE):
            last = start + _PAGE >= size
            cursor = DONE if last else {"token": hashlib.sha256(str(start).encode()).hexdigest()}
            objects = [made_up(archive.id, n, changed) for n in range(start, start + _PAGE)]
            there = [obj for obj in objects if obj is not None]
            yield ListedPage(there, 0, cursor)

    planner = Planner(engine, S3Services(WorkerSettings()), _CHUNK)
    wal = wal_bytes(engine)
    clock, ours, theirs = time.perf_counter(), time.process_time(), servers_seconds(server)
    done = planner.plan(Source(archive.url, archive, pages, ""), "backfill")
    return Night(
        "second" if changed else "first",
        time.perf_counter() - clock,
        time.process_time() - ours,
        servers_seconds(server) - theirs,
        wal_bytes(engine) - wal,
        done.totals.appeared,
        done.totals.changed,
        done.vanished,
        done.planned,
    )


def wal_bytes(engine: Engine) -> int:
    """Return the position of the server's write-ahead log."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())


def made_up(archive_id: int, number: int, changed: bool) -> ArchiveObject | None:
    """Return an object of an archive in folders; if `changed`, some differ and some are gone."""
    digest = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
    if changed and number % _EVERY == 0:
        return None
    etag = digest[::-1] if changed and number % _EVERY == 1 else digest
    key = f"2026/{digest[:2]}/{digest[2:4]}/IMG_{number:08}.jpg"
    modified = datetime(2026, 1, 1, tzinfo=UTC)
    return ArchiveObject("made-up", key, etag, 4_000_000, modified, archive_id=archive_id)


def servers_seconds(server: psutil.Process) -> float:
    """Return the CPU seconds of PostgreSQL's finished and live processes."""
    while True:
        ended = server.cpu_times()
        try:
            living = [sum(child.cpu_times()[:2]) for child in server.children()]
        except psutil.NoSuchProcess:
            continue  # it ended just now, and counts with those that have
        return float(ended.children_user + ended.children_system + sum(living))


def finish(engine: Engine, size: int) -> None:
    """Write an outcome for every object, as workers do."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO geotag.outcome (object_version_id, release_id, state, code, run_id)"
                " SELECT v.id, r.release_id, 'failed', 'corrupt', r.id"
                " FROM geotag.object_version v, geotag.run r"
            )
        )
        connection.execute(text("UPDATE geotag.chunk SET finished_at = now()"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def queries(engine: Engine, archive_id: int) -> dict[str, float]:
    """Return the milliseconds of the pending queries, medians of five; a tenth is pending."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM geotag.outcome WHERE object_version_id % 10 = 0"))
        release_id = connection.execute(text("SELECT id FROM geotag.release")).scalar_one()
        middle = connection.execute(
            text("SELECT max(id) / 2 FROM geotag.object_version")
        ).scalar_one()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    given = {"archive_id": archive_id, "release_id": release_id, "after": middle}
    return {
        "count all pending": explained(engine, _COUNT, given),
        "the next 1,000 pending, from the middle": explained(engine, _NEXT, given),
        "geotag archive show (archive_counts.sql)": explained(
            engine, str(sql("archive_counts")), given
        ),
    }


def explained(engine: Engine, query: str, given: dict[str, object]) -> float:
    """Return the execution time by EXPLAIN ANALYZE in milliseconds, the median of five."""
    times = []
    with engine.connect() as connection:
        for _ in range(5):
            lines = connection.execute(text(f"EXPLAIN (ANALYZE, TIMING OFF) {query}"), given)
            (line,) = [row[0] for row in lines if row[0].startswith("Execution Time")]
            times.append(float(re.findall(r"[\d.]+", line)[0]))
    return sorted(times)[2]


def print_results(results: dict[int, dict[str, object]]) -> None:
    load = os.getloadavg()[0]
    print(
        f"# Planning\n\n{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {psutil.cpu_count()}"
        f" cores, load average at the end {load:.1f}. Pages of {_PAGE:,}, chunks of {_CHUNK}.\n"
    )
    print(
        "| objects | night | new | changed | vanished | in chunks | objects/s |"
        " planner, µs of CPU an object | PostgreSQL, µs of CPU an object | WAL, bytes an object |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for size, found in results.items():
        for one in found["nights"]:  # type: ignore[attr-defined]
            print(
                f"| {size:,} | {one['what']} | {one['appeared']:,} | {one['changed']:,} |"
                f" {one['vanished']:,} | {one['planned']:,} | {size / one['seconds']:,.0f} |"
                f" {one['planner'] / size * 1e6:.0f} | {one['server'] / size * 1e6:.0f} |"
                f" {one['wal'] / size:,.0f} |"
            )
    print("\n| objects | planner's memory before planning, KB | peak, KB |\n|---|---|---|")
    for size, found in results.items():
        print(f"| {size:,} | {found['start_kb']:,} | {found['peak_kb']:,} |")
    print(
        "\n| query, a tenth of the objects pending | objects | ms (EXPLAIN ANALYZE) |\n"
        "|---|---|---|"
    )
    for size, found in results.items():
        for name, milliseconds in found["queries"].items():  # type: ignore[attr-defined]
            print(f"| {name} | {size:,} | {milliseconds:,.1f} |")


if __name__ == "__main__":
    main()
