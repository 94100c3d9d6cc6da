"""The training loop.

A step depends only on the configuration, the weights and its number: photographs, augmentation and
dropout follow from the seed. So a run that is killed and resumed ends with the same weights as an
uninterrupted one, on one device to the last bit.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from triton_models.cells.geocells import Hierarchy
from triton_models.networks.translocator import TransLocator
from triton_models.training.checkpoint import Checkpoint, recipe
from triton_models.training.config import Config, ConfigError
from triton_models.training.distributed import World
from triton_models.training.examples import Batch, Examples, Positions, collate
from triton_models.training.learner import Learner
from triton_models.training.logs import Logs, write_bad
from triton_models.training.loss import counts, head_losses
from triton_models.training.optimiser import make_optimiser, rate_at, set_rate
from triton_models.training.photographs import HEADS, Photographs
from triton_models.training.reading import reading
from triton_models.training.validation import validate

T = TypeVar("T")


class Diverged(Exception):
    """The loss is not a finite number. The last checkpoint is from before that."""


class Stopped(Exception):
    """The run was stopped by a signal or by the failure of a process, after a checkpoint."""


@dataclass(frozen=True)
class Material:
    """The training and validation data of a run."""

    training: Photographs
    examples: Examples
    validation: Photographs
    validation_examples: Examples
    hierarchy: Hierarchy
    digests: dict[str, str]


@dataclass(frozen=True)
class Report:
    """The progress of a run."""

    step: int
    steps: int
    loss: float
    photographs_per_second: float
    bad: int


@dataclass
class _Unreported:
    """The steps since the last line of the log; `losses` is their sum by head, [4]."""

    losses: Tensor = field(default_factory=lambda: torch.zeros(len(HEADS)))
    steps: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class TrainingLength:
    """The number of steps of a run, and the micro-batches of each step."""

    steps: int
    micro_batch: int
    accumulate: int

    @classmethod
    def of(cls, config: Config, photographs: int, processes: int) -> "TrainingLength":
        """Return the length of a run; raises ConfigError where the batch cannot be divided."""
        training = config.training
        micro = min(training.micro_batch, training.batch // processes)
        if not micro or training.batch % (micro * processes):
            raise ConfigError(
                f"training.batch {training.batch} is no multiple of micro-batches of {micro} in"
                f" {processes} processes"
            )
        steps = math.ceil(training.epochs * photographs / training.batch)
        return cls(steps, micro, training.batch // (micro * processes))


class Trainer:
    """One run, in one of its processes.

    Args:
        config: the recipe.
        network: with the weights to start from, on the CPU.
        material: the photographs.
        world: the processes of the run.
        watch: called with the progress at every line of the log.
    """

    def __init__(
        self,
        config: Config,
        network: TransLocator,
        material: Material,
        world: World,
        watch: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self.config = config
        self.material = material
        self.world = world
        self.schedule = TrainingLength.of(config, len(material.training), world.size)
        self.network = network.to(world.device)
        self.optimiser = make_optimiser(self.network, config.training)
        self.learner = Learner(self.network, config.training.precision).to(world.device)
        self.step = 0
        self.validated = True
        self.bad: dict[str, tuple[str, str]] = {}
        self._recipe = recipe(config, **material.digests)
        self._watch = watch
        self._logs: Logs | None = None
        self._unreported = _Unreported()
        self._asked = False  # a signal asked this process to stop
        self._stop = False  # all processes agreed to stop after this step
        self._trained: nn.Module = self.learner
        if config.training.compile:
            self._trained.compile()
        if world.size > 1:
            self._trained = DistributedDataParallel(self.learner)

    def resume(self) -> None:
        """Load the folder's checkpoint; raises ConfigError where there is none."""
        found = Checkpoint.load(self.config.out, self._recipe)
        self.network.load_state_dict(found.network)
        self.optimiser.load_state_dict(found.optimiser)
        self.step, self.validated, self.bad = found.step, found.validated, found.bad

    def train(self) -> dict[str, float]:
        """Train to the end; return the figures of the last validation.

        Raises Stopped after SIGINT or SIGTERM, Diverged where the loss is not finite, and errors of
        reading pictures. All are raised after a checkpoint of the last complete step.
        """
        self._logs = Logs(self.config.out, self.step) if self.world.first else None
        try:
            with self._stopping_at_signals(), self._batches() as batches:
                return self._train(batches)
        finally:
            if self._logs:
                self._logs.close()

    def _train(self, batches: Iterator[Batch]) -> dict[str, float]:
        training, steps, found = self.config.training, self.schedule.steps, dict[str, float]()
        if not self.validated:
            found = self._validate()
            self._save()
        self._unreported = _Unreported()
        while self.step < steps:
            micro_batches = self._or_all_stop(
                lambda: [next(batches) for _ in range(self.schedule.accumulate)]
            )
            self._unreported.losses += self._learn(micro_batches)
            self._unreported.steps += 1
            self.step += 1
            last = self.step == steps
            checkpoint = last or self._stop or self.step % training.checkpoint_every == 0
            if checkpoint or self.step % training.log_every == 0:
                self._report()
            if last or (training.validate_every and self.step % training.validate_every == 0):
                found = self._validate()
            if checkpoint:
                self._save()
            if self._stop and not last:
                raise Stopped(f"stopped after step {self.step} of {steps}")
        return found

    def _or_all_stop(self, read: Callable[[], T]) -> T:
        """Return what `read` reads between two steps; if it fails in one process, stop all.

        The step before is complete, so all processes write a checkpoint. No process waits for one
        that failed, whatever the error is.
        """
        try:
            done = read()
        except Exception:
            self._any_failed(here=True)
            raise
        if self._any_failed(here=False):
            raise Stopped(f"another process failed after step {self.step} of {self.schedule.steps}")
        return done

    def _any_failed(self, *, here: bool) -> bool:
        """Return whether one of the processes failed; write a checkpoint if so."""
        if not self.world.sum(torch.tensor(float(here), device=self.world.device)):
            return False
        if self.step:
            self._report()  # raises Diverged, so that weights of NaN are not saved
            self._save()
            self.world.wait()  # when the first process leaves, torchrun ends the others
        return True

    def _learn(self, micro_batches: list[Batch]) -> Tensor:
        """Train one step; return the loss of each head over the whole batch, [4]."""
        world, training = self.world, self.config.training
        self._trained.train()
        rate = rate_at(self.step, self.schedule.steps, training)
        set_rate(self.optimiser, rate)
        torch.manual_seed(_mixed(training.seed, self.step, world.rank))
        labelled = sum((counts(batch.labels) for batch in micro_batches), torch.zeros(()))
        told = world.sum(torch.cat([labelled, torch.tensor([float(self._asked)])]).to(world.device))
        self._stop = bool(told[-1] > 0)
        weights = told.new_tensor([getattr(training, head) for head in HEADS])
        total = torch.zeros(len(HEADS), device=world.device)
        for number, batch in enumerate(micro_batches):
            self._note(batch)
            moved = batch.each(lambda x: x.to(world.device, non_blocking=True))
            with self._communicating(number == len(micro_batches) - 1):
                scores = self._trained(moved.image, moved.class_map, moved.variation)
                losses = head_losses(scores, moved.labels, told[:-1], training.label_smoothing)
                # DistributedDataParallel averages gradients, but they must be summed here.
                torch.autograd.backward((losses * weights).sum() * world.size)
            total += losses.detach()
        if training.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), training.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return world.sum(total).cpu()

    def _note(self, batch: Batch) -> Batch:
        """Record the bad pictures of a batch, and return it."""
        self.bad |= {file: (code, message) for file, code, message in batch.bad}
        return batch

    def _communicating(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Synchronise gradients with the last micro-batch of a step only."""
        if isinstance(self._trained, DistributedDataParallel) and not last:
            return self._trained.no_sync()
        return contextlib.nullcontext()

    def _batches(self) -> contextlib.AbstractContextManager[Iterator[Batch]]:
        """Yield this process's micro-batches from the present step on."""
        schedule = self.schedule
        positions = Positions(
            self.step,
            schedule.steps,
            schedule.micro_batch,
            schedule.accumulate,
            self.world.rank,
            self.world.size,
        )
        return self._reading(self.material.examples, batch_sampler=positions)

    def _reading(
        self, examples: Examples, **how: object
    ) -> contextlib.AbstractContextManager[Iterator[Batch]]:
        pinned = self.world.device.type == "cuda"
        return reading(examples, collate, self.config.data.processes, pin_memory=pinned, **how)

    def _report(self) -> None:
        """Log the mean loss since the last report; raises Diverged where it is not finite."""
        told, self._unreported = self._unreported, _Unreported()
        if not told.steps:
            return
        training, losses = self.config.training, (told.losses / told.steps).tolist()
        loss = sum(getattr(training, head) * x for head, x in zip(HEADS, losses, strict=True))
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at step {self.step}: lower training.learning_rate")
        seconds = max(time.monotonic() - told.since, 1e-9)
        speed = told.steps * training.batch / seconds
        if self._logs:
            self._logs.step(
                dict(zip(HEADS, losses, strict=True))
                | {
                    "step": self.step,
                    "epoch": self.step * training.batch / len(self.material.training),
                    "learning_rate": rate_at(self.step - 1, self.schedule.steps, training),
                    "loss": loss,
                    "photographs_per_second": speed,
                    "bad": len(self.bad),
                }
            )
        self._watch(Report(self.step, self.schedule.steps, loss, speed, len(self.bad)))

    def _save(self) -> None:
        """Write the checkpoint and the list of bad pictures, in the first process."""
        for theirs in self.world.gather(self.bad):
            self.bad |= theirs
        if self.world.first:
            Checkpoint(
                step=self.step,
                recipe=self._recipe,
                network=self.network.state_dict(),
                optimiser=self.optimiser.state_dict(),
                bad=self.bad,
                validated=self.validated,
            ).save(self.config.out)
            write_bad(self.config.out, self.bad)

    def _validate(self) -> dict[str, float]:
        """Validate in the first process, while the others wait."""
        self.validated = False
        found = self._or_all_stop(self._measure if self.world.first else dict[str, float])
        self.validated = True
        if self._logs:
            self._logs.validation(self.step, found)
        return found

    def _measure(self) -> dict[str, float]:
        photographs, examples = self.material.validation, self.material.validation_examples
        if not len(photographs):
            return {}
        with self._reading(examples, batch_size=self.schedule.micro_batch) as batches:
            noted = map(self._note, batches)
            return validate(self.learner, noted, photographs, self.material.hierarchy)

    @contextlib.contextmanager
    def _stopping_at_signals(self) -> Iterator[None]:
        """End the run after a complete step on SIGINT or SIGTERM, and at once on a second one."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _mixed(seed: int, step: int, rank: int) -> int:
    """Return a different seed for every step and process, within torch's range."""
    return ((seed * 1_000_003 + step) * 4_099 + rank) % 2**64
