"""Logs of a run: `log.csv`, `validation.csv`, TensorBoard's files, and `bad.csv`.

`bad.csv` lists the pictures that were skipped.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

_COLUMNS = (
    "step",
    "epoch",
    "learning_rate",
    "loss",
    "coarse",
    "middle",
    "fine",
    "scene",
    "photographs_per_second",
    "bad",
)


class Logs:
    """Writer of a run's logs from a step on. Lines of later steps (before a kill) are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self._lines = _Table(folder / "log.csv", _COLUMNS, step)
        self._found = _Table(folder / "validation.csv", ("step", "name", "value"), step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, values: Mapping[str, float]) -> None:
        """Write one line; `values` has a number for every column."""
        self._lines.write([{name: f"{values[name]:.6g}" for name in _COLUMNS}])
        for name in _COLUMNS[2:]:
            self._board.add_scalar(f"training/{name}", values[name], int(values["step"]))

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Write the figures of a validation."""
        self._found.write(
            [{"step": step, "name": name, "value": f"{x:.6g}"} for name, x in values.items()]
        )
        for name, value in values.items():
            self._board.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Flush everything."""
        self._lines.close()
        self._found.close()
        self._board.close()


class _Table:
    """A CSV file continued after a step; lines of later steps are dropped."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        kept = []
        if step and path.is_file():
            with path.open(newline="") as file:
                kept = [line for line in csv.DictReader(file) if int(line["step"]) <= step]
        self._file = path.open("w", newline="")
        self._lines = csv.DictWriter(self._file, columns)
        self._lines.writeheader()
        self.write(kept)

    def write(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Append lines and flush, so that a kill loses none."""
        self._lines.writerows(lines)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_bad(folder: Path, bad: Mapping[str, tuple[str, str]]) -> None:
    """Write `bad.csv`: file, code and message of every picture that was skipped."""
    with (folder / "bad.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "code", "message"])
        lines.writerows([name, *why] for name, why in sorted(bad.items()))
