"""Distributed training: the processes that `torchrun` started, and collectives over them."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from triton_models.training.config import ConfigError

PATIENCE = timedelta(days=7)
"""Time-out of collectives. Processes wait for each other's class maps and for the validation, far
longer than NCCL's default of 10 minutes. If a process dies, `torchrun` ends the others at once."""


@dataclass(frozen=True)
class World:
    """The processes that train one network together, and the rank of this one."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            distributed.all_reduce(x)
        return x

    def gather(self, thing: Any) -> list[Any]:
        """Return the objects of all processes."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        distributed.all_gather_object(things, thing)
        return things

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            gpu = self.device.index
            distributed.barrier(device_ids=None if gpu is None else [gpu])


def join(device: str) -> World:
    """Join the processes that `torchrun` started; without it this process is the only one.

    GPUs communicate by NCCL, CPU processes by gloo. Raises ConfigError where the device is missing.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device is cuda, but there is no GPU that torch can use")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1, torch.device(device))
    local = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    chosen = torch.device("cuda", local) if device == "cuda" else torch.device(device)
    return World(distributed.get_rank(), size, chosen)


def leave() -> None:
    """Leave the process group."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
