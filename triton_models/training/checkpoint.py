"""Checkpoints: everything that a run needs to go on as if it had never stopped.

Random numbers are functions of the seed and the step (`examples.py`, `loop.py`), so none of their
state is saved; the step says where in the stream of photographs the run is.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from triton_models.training.config import Config, ConfigError

FILE = "checkpoint.pt"

# Keys that may differ between a run and its resumption: they change weights by rounding at most.
_FREE = {"device", "log_every", "checkpoint_every", "validate_every", "compile"}

# What torch raises of a file that is cut, changed or not its own.
_DAMAGED = (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError)


@dataclass
class Checkpoint:
    """The state of a run after so many steps."""

    step: int
    recipe: dict[str, Any]
    """What determines the weights: see `recipe`."""
    network: dict[str, Any]
    optimiser: dict[str, Any]
    bad: dict[str, tuple[str, str]]
    """Code and message of every file that could not be used so far."""
    validated: bool = True
    """Whether the validation that this step may ask for was made."""

    def save(self, folder: Path) -> None:
        """Write `checkpoint.pt`; whenever the process is killed, a whole one is there."""
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
    """What determines the weights of a run, as flat keys: configuration and digests of the data."""
    flat: dict[str, Any] = dict(digests)
    for section in ("network", "weights", "augmentation", "training"):
        values = getattr(config, section).model_dump(mode="json")
        flat |= {f"{section}.{k}": v for k, v in values.items() if k not in _FREE}
    flat["data.fit"] = config.data.fit
    return flat
