"""Read the progress of runs, and results with their candidates and attempts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from db.engine import sql
from db.schema import STATES


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run; all counts are of objects, except those of chunks.

    `chunks_waiting` are not published yet; `chunks_queued` are at the broker or with a worker.
    """

    id: int
    source: str
    queue: str
    release: str
    created_at: datetime
    planned_at: datetime | None
    listed: int
    skipped: int
    done_before: int
    failed_before: int
    planned: int
    geotagged: int
    abstained: int
    failed: int
    quarantined: int
    finished: bool
    last_finished_at: datetime | None
    heartbeat_at: datetime | None
    archive: str | None = None
    state: str = "working"
    plan_error: str | None = None
    chunks_waiting: int = 0
    chunks_queued: int = 0
    plan_warning: str | None = None

    @property
    def done(self) -> int:
        """Number of the run's objects that have an outcome."""
        return self.geotagged + self.abstained + self.failed + self.quarantined

    @property
    def pending(self) -> int:
        """Number of the run's objects without an outcome."""
        return self.planned - self.done


@dataclass(frozen=True)
class ResultFilter:
    """Restrictions on the results to read; None is no restriction."""

    run_id: int | None = None
    archive: str | None = None
    bucket: str | None = None
    prefix: str = ""
    state: str | None = None
    release: str | None = None


@dataclass(frozen=True)
class ResultRow:
    """One photograph: the stable names of `geotag results` (docs/results.md)."""

    archive: str
    bucket: str
    key: str
    state: str
    code: str | None
    longitude: float | None
    latitude: float | None
    confidence: float | None
    scene: str | None
    release: str | None
    sha256: str | None
    at: datetime | None


@dataclass(frozen=True)
class Candidate:
    """A candidate cell of a prediction, with the mean position of its photographs in degrees."""

    token: str
    probability: float
    longitude: float
    latitude: float


@dataclass(frozen=True)
class Shown:
    """All that is known of one object version, for `geotag show`."""

    result: ResultRow
    object_version_id: int
    message: str | None
    etag: str
    size: int
    content: dict[str, Any]
    prediction: dict[str, Any] | None
    candidates: tuple[Candidate, ...] = ()
    regions: tuple[dict[str, Any], ...] = ()
    attempts: tuple[dict[str, Any], ...] = field(default=())


def run_progress(engine: Engine, run_id: int | None = None, most: int = 20) -> list[RunProgress]:
    """Return the progress of a run, or of the newest `most` runs."""
    with engine.connect() as connection:
        rows = connection.execute(sql("run_progress"), {"run_id": run_id, "most": most})
        return [RunProgress(**row._mapping) for row in rows]


def failure_codes(engine: Engine, run_id: int) -> list[tuple[str, int]]:
    """Count the failed objects of a run by code, most frequent first."""
    with engine.connect() as connection:
        rows = connection.execute(sql("failure_codes"), {"run_id": run_id})
        return [(row.code, row.objects) for row in rows]


def recorded_codes(engine: Engine, run_id: int) -> list[tuple[str, int]]:
    """Count the failures that a run has recorded by code; cheap enough for polling."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT o.code, count(*) AS objects FROM geotag.outcome o"
                " JOIN geotag.run r ON r.id = :run_id"
                " WHERE o.release_id = r.release_id AND o.code IS NOT NULL AND o.run_id = r.id"
                " GROUP BY o.code ORDER BY objects DESC, o.code"
            ),
            {"run_id": run_id},
        )
        return [(row.code, row.objects) for row in rows]


def totals(engine: Engine) -> dict[str, int]:
    """Count the current objects by state, `pending` included."""
    with engine.connect() as connection:
        rows = connection.execute(sql("totals"))
        counted = {row.state: row.objects for row in rows}
    return {state: counted.get(state, 0) for state in ("pending", *STATES)}


def is_registered(engine: Engine, release: str) -> bool:
    """Return whether a release of that name is registered."""
    with engine.connect() as connection:
        return bool(
            connection.execute(
                text("SELECT EXISTS (SELECT FROM geotag.release WHERE name = :name)"),
                {"name": release},
            ).scalar_one()
        )


def stream_results(engine: Engine, which: ResultFilter) -> Iterator[ResultRow]:
    """Yield matching results by archive and key, in constant memory."""
    given = {
        "run_id": which.run_id,
        "archive": which.archive,
        "bucket": which.bucket,
        "prefix": which.prefix,
        "state": which.state,
        "release": which.release,
    }
    with engine.connect().execution_options(yield_per=1000) as connection:
        for row in connection.execute(sql("results"), given):
            yield ResultRow(**row._mapping)


def show(
    engine: Engine, bucket: str | None, key: str, *, release: str | None = None
) -> list[Shown]:
    """Return all that is known of the current objects of a key.

    Args:
        engine: the ledger.
        bucket: the key's bucket; None is all buckets.
        key: the objects' key.
        release: whose answers are meant; None is the active release, or else the newest answer.
    """
    asked = {"bucket": bucket, "key": key, "release": release}
    with engine.connect() as connection:
        rows = connection.execute(sql("show"), asked).all()
        found = []
        for row in rows:
            given = {"id": row.object_version_id, "release": row.result["release"]}
            candidates = connection.execute(sql("candidates"), given).all()
            regions = connection.execute(sql("regions"), given).mappings().all()
            attempts = connection.execute(sql("attempts"), given).mappings().all()
            at = row.result.pop("at")
            found.append(
                Shown(
                    result=ResultRow(**row.result, at=datetime.fromisoformat(at) if at else None),
                    object_version_id=row.object_version_id,
                    message=row.message,
                    etag=row.etag,
                    size=row.size,
                    content=row.content or {},
                    prediction=row.prediction,
                    candidates=tuple(Candidate(*candidate) for candidate in candidates),
                    regions=tuple(dict(region) for region in regions),
                    attempts=tuple(dict(attempt) for attempt in attempts),
                )
            )
        return found
