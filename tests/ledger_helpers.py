"""Insert rows into the ledger directly, without S3, a broker or a worker."""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import Connection, Engine, text

from db import archives, planning, runs
from db.archives import ArchiveRecord
from db.ledger import Content, Geotag, Result
from db.objects import ArchiveObject
from db.planning import ListedPage, PlannedChunk

ENDPOINT = "http://ledger.invalid"


def new_archive(engine: Engine) -> int:
    """Return the id of a new archive that no worker can reach.

    It is paused, so that no publisher publishes its chunks.
    """
    name = f"ledger-{uuid.uuid4().hex[:12]}"
    added = archives.add(engine, ArchiveRecord(name, ENDPOINT, name, allow_private=True))
    archives.pause(engine, name)
    return added.id


def listed(archive_id: int, keys: Iterable[str], *, etag: str = "1") -> list[ArchiveObject]:
    """Return objects with these keys, as a listing yields them."""
    return [ArchiveObject("ledger", key, etag, 10, archive_id=archive_id) for key in keys]


def new_run(engine: Engine) -> runs.Run:
    """Open a new run of the active release."""
    return runs.open_run(engine, f"test {uuid.uuid4()}", "backfill")


def planned(
    engine: Engine, keys: Sequence[str], *, chunk_size: int = 8
) -> tuple[int, tuple[PlannedChunk, ...]]:
    """Plan a run over new objects with these keys; return its id and unpublished chunks."""
    page = planning.plan_page(
        engine,
        new_run(engine),
        ListedPage(listed(new_archive(engine), keys)),
        chunk_size=chunk_size,
    )
    planning.close_plan(engine, page.run)
    return page.run.id, page.chunks


def sha(name: str) -> bytes:
    """Return the SHA-256 of a name, in place of a file's."""
    return hashlib.sha256(name.encode()).digest()


@cache
def a_cell(engine: Engine) -> tuple[str, str]:
    """Return the digest of the active release and the token of one of its fine cells."""
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT r.digest, min(p.token) AS token FROM geotag.release r"
                " JOIN geotag.partition_cell p ON p.partition_id = r.fine_partition_id"
                " WHERE r.active GROUP BY r.digest"
            )
        ).one()
        return row.digest, row.token


def geotag(engine: Engine, sha256: bytes, **changes: object) -> Geotag:
    """Return a made-up geotag of the active release, in its first fine cell."""
    digest, token = a_cell(engine)
    said = Geotag(
        sha256=sha256,
        release_digest=digest,
        state="geotagged",
        abstention=None,
        longitude=10.4,
        latitude=43.7,
        confidence=None,
        confidence_1_km=None,
        confidence_25_km=None,
        confidence_750_km=None,
        confidence_2500_km=None,
        coarse_cell=token,
        middle_cell=token,
        fine_cell=token,
        coarse_probability=0.5,
        middle_probability=0.25,
        fine_probability=0.125,
        candidate_cells=(token,),
        candidate_probabilities=(0.125,),
        region_50_cells=(token,),
        region_80_cells=(token,),
        region_95_cells=(token,),
        region_50_probabilities=(0.5,),
        region_80_probabilities=(0.8,),
        region_95_probabilities=(0.95,),
        scene="urban",
        scene_indoor=0.1,
        scene_natural=0.2,
        scene_urban=0.7,
        code_version="test",
    )
    return replace(said, **changes)  # type: ignore[arg-type]


def located(engine: Engine, object_version_id: int, name: str, **changes: object) -> Result:
    """Return a geotagged result of an object whose bytes are called `name`."""
    said = geotag(engine, sha(name), **changes)
    return Result(
        object_version_id,
        said.state,
        content=Content(sha(name), 10, format="JPEG", width=4, height=3),
        geotag=said,
    )


def someone_waits(connection: Connection) -> bool:
    """Return whether another session waits for a lock of this one."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid()"
    found = connection.execute(text(f"{waiting} = ANY (pg_blocking_pids(pid))"))
    return bool(found.scalar_one())
