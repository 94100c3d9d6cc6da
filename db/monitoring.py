"""What Prometheus is told of the ledger."""

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
    """Queues, ages, failures and schedules, as of now; one statement, cut off after 5 seconds."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL statement_timeout = '{_LONGEST_QUERY}'"))
        rows = connection.execute(sql("ledger_metrics"))
        return [Sample(row.metric, row.labels, float(row.value)) for row in rows]
