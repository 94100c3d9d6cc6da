"""An internal error that ends a chunk is recorded, and counted as every outcome is."""

from types import SimpleNamespace
from typing import Any

import pytest

from db import ledger
from db.ledger import Result
from db.objects import ArchiveObject
from workers.chunks import work
from workers.telemetry import metrics


def test_recorded_fault_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Result] = []
    chunk = SimpleNamespace(objects=[ArchiveObject("b", "k", object_version_id=i) for i in (1, 2)])
    lease = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr(work, "Lease", lambda _engine, _chunk_id: lease)
    monkeypatch.setattr(ledger, "begin_chunk", lambda *_arguments: chunk)
    monkeypatch.setattr(
        ledger, "write_results", lambda _engine, _id, results: written.extend(results)
    )
    count = metrics.OBJECTS.labels("failed", "internal_error")._value
    before = count.get()
    context: Any = SimpleNamespace(engine=None)
    work.record_fault(context, 7, 1, ZeroDivisionError("by zero"))
    assert [(row.object_version_id, row.code) for row in written] == [
        (1, "internal_error"),
        (2, "internal_error"),
    ]
    assert count.get() == before + 2
