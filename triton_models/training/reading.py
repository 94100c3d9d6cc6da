"""Pictures are read ahead in processes of their own, which end with the block that reads."""

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from triton_models.training.pictures import PicturesUnavailable

Item = TypeVar("Item")
Batch = TypeVar("Batch")


@contextmanager
def reading(
    dataset: Dataset[Item], collate: Callable[[list[Item]], Batch], processes: int, **how: Any
) -> Iterator[Iterator[Batch]]:
    """Batches of a dataset, read by so many processes (0: this one), which end with the block.

    `how`: what torch's DataLoader is told besides. The iterator raises PicturesUnavailable as the
    dataset did; another error of a reading process has torch's text about it for a message.
    """
    # What is garbage already must not be collected in a reading process: the threads of an ONNX
    # Runtime session are not there any more, and to end it would wait for them for ever.
    gc.collect()
    loader = DataLoader(
        _Batches(dataset, collate),
        collate_fn=_as_it_is,
        num_workers=processes,
        worker_init_fn=_begin_to_read,
        **how,
    )
    batches: Any = iter(loader)
    try:
        yield map(_checked, batches)
    finally:
        if processes:
            # torch ends them with the iterator's last reference, and an error's traceback holds
            # one: at exit, Python would wait for processes that ignore its SIGTERM.
            batches._shutdown_workers()
            for process in batches._workers:
                process.kill()  # it may still wait for an archive
                process.join()


class _Batches(Dataset[Item]):
    """A dataset that is asked for whole batches, where torch finds `__getitems__`.

    PicturesUnavailable is returned: of an error that is raised, torch sends only the text.
    """

    def __init__(self, dataset: Dataset[Item], collate: Callable[[list[Item]], Any]) -> None:
        self._dataset = dataset
        self._collate = collate

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitems__(self, positions: list[int]) -> object:
        try:
            return self._collate([self._dataset[position] for position in positions])
        except PicturesUnavailable as error:
            return error


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _checked(batch: Batch | PicturesUnavailable) -> Batch:
    if isinstance(batch, PicturesUnavailable):
        raise batch
    return batch


def _begin_to_read(_worker: int) -> None:
    """Leave to the trainer what is the trainer's: its objects, and signals.

    Ctrl-C reaches every process of the terminal, but the trainer needs its readers to the end of
    the step.
    """
    gc.freeze()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
