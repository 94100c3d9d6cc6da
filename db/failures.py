"""List failures and retry them.

A retry moves outcomes to `retried_outcome`, so that the objects are pending again, and makes a run
that holds the objects. Both happen in one transaction: a second or concurrent retry finds nothing
left. Attempts stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, TextClause, text

from db import planning
from db.engine import sql
from db.failure_filter import FailureFilter, to_sql

_ANY = "/* filter */ true"
"""Placeholder for a filter in SQL files, which are valid SQL without one too."""


@dataclass(frozen=True)
class Failure:
    """A current object that failed or is in quarantine."""

    archive: str
    bucket: str
    key: str
    state: str
    code: str
    message: str | None
    run_id: int
    release: str
    at: datetime
    retries: int


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one code, and of one archive or day (`part`): their number and the newest."""

    part: str
    code: str
    objects: int
    example: str
    message: str | None
    at: datetime


@dataclass(frozen=True)
class Retry:
    """The result of a retry.

    Args:
        run_id: the new run; None if there was nothing to retry, or in a dry run.
        codes: the number of its objects by the code of their failure.
        busy: the number of objects not retried, because an unfinished run holds them.
    """

    run_id: int | None
    codes: dict[str, int]
    busy: int

    @property
    def objects(self) -> int:
        """Number of objects to retry."""
        return sum(self.codes.values())


def failure_groups(
    engine: Engine, by: str, asked: FailureFilter | None = None, *, any_release: bool = False
) -> list[FailureGroup]:
    """Count failures by `code`, or by code within each `archive` or `day`, most frequent first.

    Counts those of the active release, or of every release. `asked` None is no restriction.
    """
    statement, given = _filtered("failure_groups", asked)
    with engine.connect() as connection:
        rows = connection.execute(statement, given | {"by": by, "any_release": any_release})
        found = [FailureGroup(**row._mapping) for row in rows]
    if by == "day":
        return sorted(found, key=lambda group: (group.part, group.objects), reverse=True)
    return sorted(found, key=lambda group: (-group.objects, group.part, group.code))


def list_failures(
    engine: Engine, asked: FailureFilter | None = None, *, any_release: bool = False
) -> Iterator[Failure]:
    """Yield failures by archive and key, in constant memory."""
    statement, given = _filtered("list_failures", asked)
    with engine.connect().execution_options(yield_per=1000) as connection:
        for row in connection.execute(statement, given | {"any_release": any_release}):
            yield Failure(**row._mapping)


def retry(
    engine: Engine, asked: FailureFilter, source: str, *, chunk_size: int, dry_run: bool = False
) -> Retry:
    """Plan matching failures of the active release again; each quarantined object alone in a chunk.

    Args:
        engine: of the ledger.
        asked: which failures.
        source: the source of the new run, as shown to people.
        chunk_size: objects in a chunk, at most.
        dry_run: only count the failures.
    """
    statement, given = _filtered("stage_retry", asked)
    with engine.begin() as connection:
        # One retry at a time, so that the next one sees what this one has moved.
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.retry', 0))")
        )
        connection.execute(statement, given)
        counted = connection.execute(
            text(
                "SELECT code, count(*) FILTER (WHERE NOT busy) AS objects,"
                " count(*) FILTER (WHERE busy) AS busy"
                " FROM pg_temp.retried GROUP BY code ORDER BY objects DESC, code"
            )
        ).all()
        codes = {row.code: row.objects for row in counted if row.objects}
        run_id = _plan(connection, source, chunk_size) if codes and not dry_run else None
    return Retry(run_id, codes, sum(row.busy for row in counted))


def _plan(connection: Connection, source: str, chunk_size: int) -> int:
    """Make a run of the objects of `pg_temp.retried`, with a complete plan; return its id."""
    run_id: int = connection.execute(
        text(
            "INSERT INTO geotag.run (source, queue, release_id, listed, planned_at)"
            " SELECT :source, 'backfill', release_id, count(*), now()"
            " FROM pg_temp.retried WHERE NOT busy GROUP BY release_id RETURNING id"
        ),
        {"source": source},
    ).scalar_one()
    together, alone = connection.execute(
        text(
            "SELECT array_agg(object_version_id) FILTER (WHERE NOT alone),"
            " array_agg(object_version_id) FILTER (WHERE alone)"
            " FROM pg_temp.retried WHERE NOT busy"
        )
    ).one()
    planning.cut(connection, run_id, together or (), chunk_size)
    planning.cut(connection, run_id, alone or (), 1)
    connection.execute(sql("set_outcomes_aside"), {"run_id": run_id})
    return run_id


def _filtered(name: str, asked: FailureFilter | None) -> tuple[TextClause, dict[str, object]]:
    """Return a statement with the filter inserted, and the filter's parameters."""
    if asked is None:
        return sql(name), {}
    condition, parameters = to_sql(asked)
    return text(sql(name).text.replace(_ANY, condition)), parameters
