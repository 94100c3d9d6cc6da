"""Counters of the publisher, with a stand-in for the ledger."""

from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from db import dispatch
from workers.broker.app import BrokerUnavailable
from workers.broker.publisher import Publisher

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOTHING: Any = None


def test_recalled_chunks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "recall_closed", lambda _engine, _now: 3)
    monkeypatch.setattr(dispatch, "any_overdue", lambda *_given: True)
    monkeypatch.setattr(Publisher, "_recall_lost", lambda *_given: 2)  # of each of two queues
    before = REGISTRY.get_sample_value("geotag_recalled_chunks_total") or 0
    assert Publisher(NOTHING, NOTHING, 1, 1).sweep(NOW) == 7
    assert REGISTRY.get_sample_value("geotag_recalled_chunks_total") == before + 7


def test_a_broker_that_cannot_be_asked_does_not_stop_publishing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot_be_asked(_publisher: Publisher, _now: datetime) -> int:
        raise BrokerUnavailable("the queue geotag.backfill cannot be declared")

    published: list[datetime] = []
    monkeypatch.setattr(Publisher, "sweep", cannot_be_asked)
    monkeypatch.setattr(Publisher, "top_up", lambda _publisher, now: published.append(now))
    Publisher(NOTHING, NOTHING, 1, 1).round(NOW)
    assert published == [NOW]
