"""Metrics of the ledger for Prometheus."""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from db.engine import sql

_LONGEST_QUERY = "5s"


@dataclass(frozen=True)
class Sample:
    """One value of a metric, with its labels."""

    metric: str
    labels: dict[str, str]
    value: float


def ledger_samples(engine: Engine) -> list[Sample]:
    """Return queues, ages, failures and schedules as of now, by one statement with a time-out."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL statement_timeout = '{_LONGEST_QUERY}'"))
        rows = connection.execute(sql("ledger_metrics"))
        return [Sample(row.metric, row.labels, float(row.value)) for row in rows]
