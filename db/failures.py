"""What failed, and trying it again.

A retry sets the outcomes aside (`retried_outcome` keeps them), so that the objects are pending
again, and makes a run that holds them, like any other. All of that is one transaction: whoever
asks twice, or at the same moment as somebody else, finds nothing left to retry. Attempts stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, TextClause, text

from db import planning
from db.engine import sql
from db.failure_filter import FailureFilter, to_sql

_ANY = "/* filter */ true"
"""What a filter takes the place of in the statements below; they run as they stand, too."""


@dataclass(frozen=True)
class Failure:
    """An object that is there and failed, or is in quarantine."""

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
    """Failures of one code, and of one archive or day (`part`): how many, and the newest."""

    part: str
    code: str
    objects: int
    example: str
    message: str | None
    at: datetime


@dataclass(frozen=True)
class Retry:
    """What a retry came to.

    Args:
        run_id: the run that tries again; None where nothing was to be retried, or in a dry run.
        codes: how many objects it holds, by the code that they had failed with.
        busy: how many were left as they are, because an unfinished run holds them.
    """

    run_id: int | None
    codes: dict[str, int]
    busy: int

    @property
    def objects(self) -> int:
        """Objects to be tried again."""
        return sum(self.codes.values())


def failure_groups(
    engine: Engine, by: str, asked: FailureFilter | None = None, *, any_release: bool = False
) -> list[FailureGroup]:
    """Failures counted by `code`, or by code within each `archive` or `day`; the most first.

    They are those of the active release, or of every one. `asked` None is no restriction.
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
    """The failures themselves, by archive and key; memory is flat in their number."""
    statement, given = _filtered("list_failures", asked)
    with engine.connect().execution_options(yield_per=1000) as connection:
        for row in connection.execute(statement, given | {"any_release": any_release}):
            yield Failure(**row._mapping)


def retry(
    engine: Engine, asked: FailureFilter, source: str, *, chunk_size: int, dry_run: bool = False
) -> Retry:
    """Plan the matching failures of the active release again; quarantined ones alone in a chunk.

    Args:
        engine: of the ledger.
        asked: which failures.
        source: what the new run says that it was asked for.
        chunk_size: objects in a chunk, at most.
        dry_run: only count them.
    """
    statement, given = _filtered("stage_retry", asked)
    with engine.begin() as connection:
        # One retry at a time: the next one sees what this one took.
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
    """The run that holds what `pg_temp.retried` does; its plan is complete."""
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
    """A statement with the filter in its place, and the filter's parameters."""
    if asked is None:
        return sql(name), {}
    condition, parameters = to_sql(asked)
    return text(sql(name).text.replace(_ANY, condition)), parameters
