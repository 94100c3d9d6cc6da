"""Agreement of class maps: a confusion matrix, and intersection over union."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Agreement:
    """Confusion matrix of pixels: true class by answered class."""

    classes: tuple[str, ...]
    confusion: np.ndarray = field(init=False)  # INT64 [classes, classes]: truth, answer

    def __post_init__(self) -> None:
        """Start with no pixel."""
        self.confusion = np.zeros((len(self.classes),) * 2, np.int64)

    def add(self, truth: np.ndarray, answer: np.ndarray) -> None:
        """Count the pixels of UINT8 class maps of one shape."""
        n = len(self.classes)
        pairs = truth.astype(np.int64).ravel() * n + answer.ravel()
        self.confusion += np.bincount(pairs, minlength=n * n).reshape(n, n)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, FP64; NaN where neither has a pixel of it."""
        both = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - both
        with np.errstate(invalid="ignore"):
            out: np.ndarray = both / either
        return out

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur."""
        return float(np.nanmean(self.iou))

    @property
    def accuracy(self) -> float:
        """Share of the pixels whose answered class is the true one."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def shares(self) -> np.ndarray:
        """Share of the truth's pixels in each class."""
        out: np.ndarray = self.confusion.sum(axis=1) / self.confusion.sum()
        return out

    @property
    def answered(self) -> np.ndarray:
        """Share of the answer's pixels in each class."""
        out: np.ndarray = self.confusion.sum(axis=0) / self.confusion.sum()
        return out


def commonest(targets: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """Return the trivial answer: the commonest class at each pixel position, UINT8 [S, S]."""
    ids = np.arange(classes)[:, None, None]
    counts = sum((target == ids).astype(np.int64) for target in targets)
    ranked: np.ndarray = np.asarray(counts).argmax(axis=0).astype(np.uint8)
    return ranked


def milliseconds(run: Callable[[np.ndarray], object], pictures: Sequence[np.ndarray]) -> float:
    """Return the median processor time of `run` for one picture, after one warm-up call.

    Processor time leaves out other programs' share of a busy machine.
    """
    run(pictures[0])
    times = []
    for picture in pictures:
        start = time.process_time()
        run(picture)
        times.append(time.process_time() - start)
    return 1000 * float(np.median(times))


def table(ours: Agreement, trivial: Agreement) -> str:
    """Render both agreements with the same truth as a Markdown table, a line for each class."""
    lines = [
        "| class | share of pixels | share answered | IoU | IoU of the trivial answer |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = zip(ours.classes, ours.shares, ours.answered, ours.iou, trivial.iou, strict=True)
    for name, share, answered, iou, baseline in rows:
        cells = " | ".join(_number(value) for value in (share, answered, iou, baseline))
        lines.append(f"| {name} | {cells} |")
    lines.append(f"| **mean** | | | **{ours.mean_iou:.3f}** | {trivial.mean_iou:.3f} |")
    lines.append(f"| pixels that agree | | | {ours.accuracy:.3f} | {trivial.accuracy:.3f} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
