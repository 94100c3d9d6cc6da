"""Read a chunk when a worker begins it, and write its results in bulk."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from operator import attrgetter

from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.dialects import postgresql

from db import archives, schema
from db.archives import RegisteredArchive
from db.copy import stage
from db.engine import sql
from db.objects import ArchiveObject


@dataclass(frozen=True)
class Chunk:
    """The objects of a chunk that have no outcome yet, their archive, and the release to ask.

    `killed` counts the attempts that dead workers left open.
    """

    run_id: int
    release: str
    digest: str
    archive: RegisteredArchive
    objects: tuple[ArchiveObject, ...]
    killed: int = 0


@dataclass(frozen=True)
class Content:
    """Distinct bytes and the facts read from them; position in degrees, WGS 84."""

    sha256: bytes
    bytes: int
    format: str | None = None
    width: int | None = None
    height: int | None = None
    captured_at: datetime | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    exif_longitude: float | None = None
    exif_latitude: float | None = None
    exif_altitude_m: float | None = None


@dataclass(frozen=True)
class Geotag:
    """A release's prediction for a content, with the columns of the table `geotag`.

    Longitude and latitude in degrees, WGS 84; `confidence` is the probability that the place lies
    within 200 km, None where the release is not calibrated.
    """

    sha256: bytes
    release_digest: str
    state: str
    abstention: str | None
    longitude: float
    latitude: float
    confidence: float | None
    confidence_1_km: float | None
    confidence_25_km: float | None
    confidence_750_km: float | None
    confidence_2500_km: float | None
    coarse_cell: str | None
    middle_cell: str | None
    fine_cell: str
    coarse_probability: float | None
    middle_probability: float | None
    fine_probability: float
    candidate_cells: tuple[str, ...]
    candidate_probabilities: tuple[float, ...]
    region_50_cells: tuple[str, ...]
    region_80_cells: tuple[str, ...]
    region_95_cells: tuple[str, ...]
    region_50_probabilities: tuple[float, ...]
    region_80_probabilities: tuple[float, ...]
    region_95_probabilities: tuple[float, ...]
    scene: str
    scene_indoor: float
    scene_natural: float
    scene_urban: float
    code_version: str


@dataclass(frozen=True)
class Result:
    """The result of one attempt at one object.

    Args:
        object_version_id: the object.
        state: of the outcome; None if the object goes back to the queue without one.
        code, message: of the error, if any.
        content: what was fetched, if anything was.
        version_id: the version that S3 served, if the bucket keeps versions.
        geotag: a new prediction; None if the content already had one, or none was made.
    """

    object_version_id: int
    state: str | None
    code: str | None = None
    message: str | None = None
    content: Content | None = None
    version_id: str | None = None
    geotag: Geotag | None = None


# Columns of Content and Geotag that are staged, and stored in another form.
_STAGED = {
    "release_digest": "text",
    "longitude": "float8",
    "latitude": "float8",
    "exif_longitude": "float8",
    "exif_latitude": "float8",
}


def _columns(row_type: type[Content] | type[Geotag], table: Table) -> dict[str, str]:
    """Return the PostgreSQL type of each field, as the table has it."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {
        field.name: _STAGED.get(field.name) or table.c[field.name].type.compile(dialect)
        for field in fields(row_type)
    }


_CONTENT = _columns(Content, schema.content)
_GEOTAG = _columns(Geotag, schema.geotag)
_OUTCOME = {
    "object_version_id": "bigint",
    "state": "text",
    "code": "text",
    "message": "text",
    "sha256": "bytea",
    "version_id": "text",
}


def begin_chunk(engine: Engine, chunk_id: int, delivery: int, forgiven: int = 0) -> Chunk | None:
    """Return the chunk with its objects that have no outcome yet.

    Open attempts of the chunk are closed. Those up to the id `forgiven` are closed as
    `handed_back`, because their worker only lost the database; the others as `worker_killed`. The
    caller has the chunk's lease.

    Returns:
        None if the message is stale or the archive was removed.
    """
    with engine.begin() as connection:
        current = connection.execute(
            text(
                "UPDATE geotag.chunk c SET heartbeat_at = now()"
                " FROM geotag.run r JOIN geotag.release l ON l.id = r.release_id, geotag.archive a"
                " WHERE c.id = :id AND c.delivery = :delivery AND c.finished_at IS NULL"
                " AND r.id = c.run_id AND a.id = c.archive_id AND a.removed_at IS NULL"
                " RETURNING r.id AS run_id, l.name, l.digest, c.archive_id"
            ),
            {"id": chunk_id, "delivery": delivery},
        ).one_or_none()
        if current is None:
            return None
        closed = connection.execute(
            text(
                "UPDATE geotag.attempt SET finished_at = now(), code ="
                " CASE WHEN id <= :forgiven THEN 'handed_back' ELSE 'worker_killed' END"
                " WHERE chunk_id = :id AND finished_at IS NULL RETURNING code"
            ),
            {"id": chunk_id, "forgiven": forgiven},
        ).scalars()
        killed = sum(code == "worker_killed" for code in closed)
        rows = connection.execute(sql("begin_chunk"), {"chunk_id": chunk_id}).all()
        objects = tuple(ArchiveObject(**row._mapping) for row in rows)
        archive = archives.by_id(connection, current.archive_id)
        return Chunk(current.run_id, current.name, current.digest, archive, objects, killed)


def finish_chunk(engine: Engine, chunk_id: int) -> None:
    """Mark a chunk as finished if each of its objects has an outcome."""
    with engine.begin() as connection:
        connection.execute(sql("finish_chunk"), {"chunk_id": chunk_id})


def open_attempts(
    engine: Engine, chunk_id: int, object_version_ids: Sequence[int], worker: str
) -> int:
    """Record an attempt for each of these objects, before any is touched.

    The open attempts of a worker that dies show which objects may have killed it.

    Returns:
        The id of the last attempt; 0 if there are no objects.
    """
    with engine.begin() as connection:
        opened = connection.execute(
            text(
                "INSERT INTO geotag.attempt (object_version_id, release_id, chunk_id, worker)"
                " SELECT o.id, r.release_id, c.id, :worker"
                " FROM unnest(CAST(:ids AS bigint[])) AS o (id),"
                " geotag.chunk c JOIN geotag.run r ON r.id = c.run_id WHERE c.id = :chunk_id"
                " RETURNING id"
            ),
            {"ids": list(object_version_ids), "chunk_id": chunk_id, "worker": worker},
        )
        return max(opened.scalars(), default=0)


def heartbeat(engine: Engine, chunk_id: int) -> None:
    """Record that the chunk's worker is alive."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE geotag.chunk SET heartbeat_at = now() WHERE id = :id"), {"id": chunk_id}
        )


def write_results(engine: Engine, chunk_id: int, results: Sequence[Result]) -> None:
    """Write a chunk's results in one transaction; idempotent.

    The chunk is marked as finished if each of its objects then has an outcome.
    """
    with engine.begin() as connection:
        run = connection.execute(
            text(
                "SELECT r.id AS run_id, r.release_id FROM geotag.chunk c"
                " JOIN geotag.run r ON r.id = c.run_id WHERE c.id = :id"
            ),
            {"id": chunk_id},
        ).one()
        given = {"run_id": run.run_id, "release_id": run.release_id, "chunk_id": chunk_id}
        _stage_results(connection, results)
        for statement in (
            "insert_contents",
            "insert_geotags",
            "name_contents",
            "insert_outcomes",
            "close_attempts",
            "finish_chunk",
        ):
            connection.execute(sql(statement), given)


def _stage_results(connection: Connection, results: Sequence[Result]) -> None:
    contents = (astuple(r.content) for r in results if r.content)
    stage(connection, _CONTENT, contents, name="staged_content")
    geotags = (attrgetter(*_GEOTAG)(r.geotag) for r in results if r.geotag)
    stage(connection, _GEOTAG, geotags, name="staged_geotag")
    stage(
        connection,
        _OUTCOME,
        (
            (
                r.object_version_id,
                r.state,
                r.code,
                r.message,
                r.content.sha256 if r.content else None,
                r.version_id,
            )
            for r in results
            if r.state is not None
        ),
        name="staged_outcome",
    )
    stage(
        connection,
        {"object_version_id": "bigint", "code": "text"},
        ((r.object_version_id, r.code) for r in results),
        name="staged_attempt",
    )
