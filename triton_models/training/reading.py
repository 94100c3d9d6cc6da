"""Read pictures ahead in worker processes that end with the reading block."""

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
    """Yield an iterator over batches, read by `processes` processes (0: in this one).

    The processes end with the block. `how`: further arguments of torch's DataLoader. The iterator
    raises the dataset's PicturesUnavailable. Another error of a reading process has torch's text as
    its message.
    """
    # Existing garbage must not be collected in a reading process. The threads of an ONNX Runtime
    # session do not exist there after the fork, and its destructor would wait for them for ever.
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
            # torch ends them with the iterator's last reference, but an error's traceback keeps
            # one. At exit Python would then wait for processes that ignore its SIGTERM.
            batches._shutdown_workers()
            for process in batches._workers:
                process.kill()  # it may still wait for S3
                process.join()


class _Batches(Dataset[Item]):
    """A dataset that returns whole batches by torch's `__getitems__`.

    It returns PicturesUnavailable, because torch would send only the text of a raised error.
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
    """Freeze the trainer's objects, and ignore SIGINT and SIGTERM.

    Ctrl-C reaches every process of the terminal, but the trainer needs its readers until the end of
    the step.
    """
    gc.freeze()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
