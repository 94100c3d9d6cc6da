"""A training process that kills itself: `python -m tests.training_process CONFIG STEP`."""

import os
import signal
import sys
from pathlib import Path

from geotag.context import context
from geotag.train import pictures_of
from triton_models.training import config, distributed
from triton_models.training.loop import Report
from triton_models.training.plan import plan
from triton_models.training.run import run
from workers.photo import InputSpec


def train(path: Path, *, resume: bool = False, kill_at: int | None = None, **values: str) -> None:
    """Train in this process, to the end or to the step at which it dies as by `kill -9`."""
    chosen = config.load(path, [f"{key.replace('__', '.')}={x}" for key, x in values.items()])
    planned = plan(chosen)
    size = planned.network.image_size
    pictures = pictures_of(chosen.data.folder, InputSpec(size, size, "crop"), context())

    def watch(report: Report) -> None:
        if report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(planned, pictures, distributed.join("cpu"), resume=resume, watch=watch)


if __name__ == "__main__":
    train(Path(sys.argv[1]), kill_at=int(sys.argv[2]), out="run")
