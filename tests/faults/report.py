"""The table of the faults' verdicts."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.trial import Verdict

_COLUMNS = (
    "| fault | broker | how often | objects | lost | doubled | extra inferences (may be)"
    " | recovery, s | run, s |\n|---|---|---|---|---|---|---|---|---|\n"
)


class Report:
    """Verdicts as a table: printed at the end, and written where GEOTAG_FAULT_REPORT says."""

    def __init__(self, seed: str, path: str | None) -> None:
        today = datetime.now(UTC).date()
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        self._head = f"# Faults\n\n{today}, {machine}, seed {seed}.\n\n"
        self._path = path
        self._rows: list[str] = []

    def add(self, verdict: Verdict) -> None:
        """Add the row of a verdict."""
        v = verdict
        row = (
            f"| {v.fault} | {v.broker} | {v.times} | {v.objects} | {v.lost} | {v.doubled}"
            f" | {v.extra} ({v.allowed}) | {v.recovery:.1f} | {v.seconds:.1f} |\n"
        )
        print("", row, *v.problems, sep="\n", file=sys.stderr)
        self._rows.append(row)
        if self._path:
            Path(self._path).write_text(self._head + self._table, encoding="utf-8")

    def close(self) -> None:
        """Print the table."""
        print(f"\n{self._table}", file=sys.stderr)

    @property
    def _table(self) -> str:
        return _COLUMNS + "".join(self._rows)
