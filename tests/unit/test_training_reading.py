"""The processes that read ahead, by themselves."""

import gc
import os
from pathlib import Path

from torch.utils.data import Dataset

from triton_models.training.reading import reading


class Collecting(Dataset[int]):
    """Has its process collect its garbage for every item; an item is the process's number."""

    def __getitem__(self, position: int) -> int:
        gc.collect()
        return os.getpid()

    def __len__(self) -> int:
        return 4


class Garbage:
    """Refers to itself; says which process ended it."""

    def __init__(self, said: Path) -> None:
        self.said, self.itself = said, self

    def __del__(self) -> None:
        with self.said.open("a") as file:
            print(os.getpid(), file=file)


def test_garbage_is_ended_by_the_process_that_made_it(tmp_path: Path) -> None:
    """An ONNX Runtime session that a reading process ended would wait for its threads for ever."""
    gc.disable()
    try:
        Garbage(tmp_path / "said")
        with reading(Collecting(), sum, 1, batch_size=2) as batches:
            (one, other) = batches
    finally:
        gc.enable()
    assert one == other != 2 * os.getpid()
    assert (tmp_path / "said").read_text().split() == [str(os.getpid())]
