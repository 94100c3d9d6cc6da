"""Checkpoints: the state from which a run resumes as if it had not stopped.

Random numbers are functions of the seed and the step (`examples.py`, `loop.py`), so no generator
state is saved. The step is the position in the stream of photographs.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from triton_models.training.config import Config, ConfigError

FILE = "checkpoint.pt"

# Keys that may differ between a run and its resumption. They change weights by rounding at most.
_FREE = {"device", "log_every", "checkpoint_every", "validate_every", "compile"}

# Errors that torch raises for a truncated, changed or foreign file.
_DAMAGED = (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError)


@dataclass
class Checkpoint:
    """The state of a run after a number of steps."""

    step: int
    recipe: dict[str, Any]
    """The values that determine the weights, from `recipe`."""
    network: dict[str, Any]
    optimiser: dict[str, Any]
    bad: dict[str, tuple[str, str]]
    """Code and message of every bad picture so far."""
    validated: bool = True
    """Whether the validation that is due at this step has been done."""

    def save(self, folder: Path) -> None:
        """Write `checkpoint.pt` atomically, so that a kill leaves a complete file."""
        part = folder / f".{FILE}.part"
        with part.open("wb") as file:
            torch.save(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path, recipe: dict[str, Any]) -> "Checkpoint":
        """Read the checkpoint of a run of the same recipe; raises ConfigError."""
        path = folder / FILE
        if not path.is_file():
            raise ConfigError(f"{folder} has no checkpoint to resume from; start without --resume")
        try:
            found = cls(**torch.load(path, map_location="cpu", weights_only=True))
        except _DAMAGED as error:
            raise ConfigError(
                f"{path} cannot be read: {error}; if it is damaged, start without it and --resume"
            ) from error
        keys = found.recipe.keys() | recipe.keys()
        changed = sorted(k for k in keys if found.recipe.get(k) != recipe.get(k))
        if changed:
            raise ConfigError(
                f"{path} is of another run: {', '.join(changed)} differ; set them back, or set"
                " another out"
            )
        return found


def recipe(config: Config, **digests: str) -> dict[str, Any]:
    """Return what determines a run's weights, as flat keys: configuration and data digests."""
    flat: dict[str, Any] = dict(digests)
    for section in ("network", "weights", "augmentation", "training"):
        values = getattr(config, section).model_dump(mode="json")
        flat |= {f"{section}.{k}": v for k, v in values.items() if k not in _FREE}
    flat["data.fit"] = config.data.fit
    return flat
