"""A training process that ends early, or fails: `python -m tests.training_process` CONFIG HOW STEP.

HOW is kill, or fail, with which the second process cannot read any more pictures. KEY=VALUE may
follow, as `train` takes them.
"""

import os
import signal
import sys
from pathlib import Path

from geotag.context import make_context
from geotag.training.train import pictures_of
from triton_models.training import config, distributed
from triton_models.training.loop import Report
from triton_models.training.pictures import Pictures, PicturesUnavailable
from triton_models.training.plan import plan
from triton_models.training.run import run
from workers.photo.reading import InputSpec


def train(
    path: Path,
    *,
    resume: bool = False,
    kill_at: int | None = None,
    fail_at: int | None = None,
    **values: str,
) -> None:
    """Train to the end, or to the step at which this process dies as by `kill -9`.

    After the step `fail_at` the second of the processes finds no picture any more.
    """
    chosen = config.load(path, [f"{key.replace('__', '.')}={x}" for key, x in values.items()])
    world = distributed.join("cpu")
    planned = plan(chosen, world.size)
    size = planned.network.image_size
    pictures = pictures_of(chosen.data.folder, InputSpec(size, size, "crop"), make_context())
    failing = False

    def watch(report: Report) -> None:
        nonlocal failing
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        failing = report.step == fail_at and not world.first

    def fetch(file: str) -> bytes:
        if failing:
            raise PicturesUnavailable(OSError("nobody answers"))
        return pictures.fetch(file)

    try:
        run(planned, Pictures(fetch, pictures.decode), world, resume=resume, watch=watch)
    finally:
        distributed.leave()


if __name__ == "__main__":
    file, how, step, *settings = sys.argv[1:]
    train(Path(file), **{f"{how}_at": int(step)}, **dict(x.split("=") for x in settings))  # type: ignore[arg-type]
