"""A run's logs: `log.csv`, TensorBoard's files, and `bad.csv`, the pictures that were skipped."""

import csv
from collections.abc import Mapping
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
    """Writes the logs of a run from a step on; lines of later steps, from before a kill, go."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / "log.csv"
        kept = []
        if step and path.is_file():
            with path.open(newline="") as file:
                kept = [line for line in csv.DictReader(file) if int(line["step"]) <= step]
        self._file = path.open("w", newline="")
        self._lines = csv.DictWriter(self._file, _COLUMNS)
        self._lines.writeheader()
        self._lines.writerows(kept)
        self._file.flush()
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def step(self, values: Mapping[str, float]) -> None:
        """Write one line; `values` has a number for every column."""
        self._lines.writerow({name: f"{values[name]:.6g}" for name in _COLUMNS})
        self._file.flush()
        for name in _COLUMNS[2:]:
            self._board.add_scalar(f"training/{name}", values[name], int(values["step"]))

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Write what a validation found to TensorBoard."""
        for name, value in values.items():
            self._board.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Flush everything."""
        self._file.close()
        self._board.close()


def write_bad(folder: Path, bad: Mapping[str, tuple[str, str]]) -> None:
    """Write `bad.csv`: file, code and message of every picture that was skipped."""
    with (folder / "bad.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "code", "message"])
        lines.writerows([name, *why] for name, why in sorted(bad.items()))
