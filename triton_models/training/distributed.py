"""One process or many: what `torchrun` says about them, and sums over them."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from triton_models.training.config import ConfigError

PATIENCE = timedelta(days=7)
"""Of a process with the others: they wait for each other's class maps and for the validation, far
longer than NCCL's 10 minutes. `torchrun` ends those whose partner has died, at once."""


@dataclass(frozen=True)
class World:
    """The processes that train one network together, and this one's place among them."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in each of them."""
        if self.size > 1:
            distributed.all_reduce(x)
        return x

    def gather(self, thing: Any) -> list[Any]:
        """What every process has, in each of them."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        distributed.all_gather_object(things, thing)
        return things

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            gpu = self.device.index
            distributed.barrier(device_ids=None if gpu is None else [gpu])


def join(device: str) -> World:
    """Join the processes that `torchrun` started; without it this is the only one.

    NCCL between GPUs, gloo between CPU processes. Raises ConfigError where there is no such device.
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
    """Take leave of the other processes."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
