"""`geotag train`: train with the workers' decoding, show progress, and report errors."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from geotag.archives import registry
from geotag.context import Context, make_context
from geotag.exits import INTERRUPTED, OK
from geotag.output import console, errors
from geotag.tables import Fact, Shorten, print_facts
from triton_models.networks.pretrained import WeightsError
from triton_models.training import checkpoint, config, distributed
from triton_models.training.loop import Diverged, Report, Stopped
from triton_models.training.pictures import BadPicture, Pictures, PicturesUnavailable, Pixels
from triton_models.training.plan import TrainingPlan, cost, plan
from triton_models.training.run import check
from triton_models.training.run import run as train
from workers.errors import (
    GeotagError,
    ObjectChanged,
    ObjectForbidden,
    ObjectMissing,
    PhotoError,
    UsageError,
)
from workers.photo.reading import InputSpec, PhotoLimits, read_photo
from workers.planning.sources import check_key
from workers.s3.clients import S3Access, access_of
from workers.s3.service import S3Service, parse_s3_url
from workers.settings import WorkerSettings


def dry(path: Path, changes: Sequence[str], *, resume: bool = False) -> None:
    """Print what a run will be.

    Raises:
        UsageError: the configuration or the data cannot be used.
    """
    with _named_errors():
        chosen = config.load(path, changes)
        planned = plan(chosen, int(os.environ.get("WORLD_SIZE", "1")))
        check(planned, resume=resume)
        print_facts(facts_of(planned))


def run(path: Path, changes: Sequence[str], *, resume: bool) -> int:
    """Train; return the exit code.

    Raises:
        UsageError: the configuration or the data cannot be used.
        GeotagError: the archive cannot be read.
    """
    with _named_errors():
        chosen = config.load(path, changes)
        world = distributed.join(chosen.training.device)
        try:
            planned = plan(chosen, world.size)
            spec = InputSpec(
                planned.network.image_size, planned.network.image_size, chosen.data.fit
            )
            pictures = pictures_of(chosen.data.folder, spec, make_context())
            pictures = Pictures(_Travelling(pictures.fetch), pictures.decode)
            with _Bars(planned, world.size, shown=world.first) as bars:
                found = train(
                    planned, pictures, world, resume=resume, made=bars.made, watch=bars.watch
                )
        except (Stopped, PicturesUnavailable) as stop:
            resumable = (chosen.out / checkpoint.FILE).exists()
            say(f"to continue: geotag train {path} --resume", world.first and resumable)
            if isinstance(stop, PicturesUnavailable):
                raise stop.cause from stop
            say(str(stop), world.first)
            return INTERRUPTED
        finally:
            distributed.leave()
    say(f"{bars.bad} pictures could not be used: {chosen.out / 'bad.csv'}", bars.bad > 0)
    if world.first:
        for name, value in found.items():
            console.print(f"{name.replace('_', ' ')}: {value:.4f}", highlight=False)
        say(f"trained: {chosen.out}")
    return OK


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (config.ConfigError, WeightsError, Diverged) as error:
        raise UsageError(str(error)) from error


def say(line: str, when: bool = True) -> None:
    """Print a line to standard error."""
    if when:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)


def pictures_of(folder: str, spec: InputSpec, context: Context) -> Pictures:
    """Return the pictures of a folder or an `s3://bucket/prefix`, decoded as the workers decode.

    If a ledger is known, the prefix must lie in a registered archive. Its settings are used.

    Raises:
        UsageError: there is no such folder, or the archive is not registered, or paused.
    """
    settings = context.settings.worker
    limits = PhotoLimits(settings.max_bytes, settings.max_pixels, settings.decode_seconds)
    if folder.startswith("s3://"):
        prefix = folder.rstrip("/") + "/"
        service = access_of(settings)
        if context.settings.database.database_url is not None:
            service = access_of(settings, registry.of_url(context, prefix)[0])
        return Pictures(_FromS3(*parse_s3_url(prefix), service, settings), _Decode(spec, limits))
    if not Path(folder).is_dir():
        raise UsageError(
            f"{folder} is no folder: data.folder, or --photos, says where the photographs are"
        )
    return Pictures(_FromFolder(Path(folder)), _Decode(spec, limits))


@dataclass(frozen=True)
class _Decode:
    spec: InputSpec
    limits: PhotoLimits

    def __call__(self, data: bytes) -> Pixels:
        try:
            return read_photo(data, self.spec, self.limits).pixels
        except PhotoError as error:
            raise BadPicture(error.code, error.message) from error


@dataclass(frozen=True)
class _Travelling:
    """Fetches a file. An archive's error becomes one that a reading process can pass on."""

    fetch: Callable[[str], bytes]

    def __call__(self, file: str) -> bytes:
        try:
            return self.fetch(file)
        except GeotagError as error:
            raise PicturesUnavailable(error) from error


@dataclass(frozen=True)
class _FromFolder:
    folder: Path

    def __call__(self, file: str) -> bytes:
        try:
            return (self.folder / file).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = getattr(error, "strerror", None) or error
            raise BadPicture(ObjectMissing.code, f"{file}: {why}") from error


@dataclass(frozen=True)
class _FromS3:
    """Pictures of an archive. Its client retries transient errors; then they end the run."""

    bucket: str
    prefix: str
    service: S3Access
    settings: WorkerSettings

    @cached_property
    def _archive(self) -> S3Service:  # made in the reading process, after the fork
        return S3Service(self.settings, self.service)

    def __call__(self, file: str) -> bytes:
        key = self.prefix + file
        if wrong := check_key(key):  # some services leave the prefix for such a key
            raise BadPicture(ObjectForbidden.code, f"{file}: {wrong}")
        try:
            found = self._archive.head(self.bucket, key)
            return self._archive.fetch(found, self.settings.max_bytes).data
        except (ObjectChanged, ObjectMissing, ObjectForbidden, PhotoError) as error:
            raise BadPicture(error.code, error.message) from error


class _Bars:
    """Two progress bars, for class maps and for steps, in the first process only."""

    def __init__(self, planned: TrainingPlan, processes: int, *, shown: bool) -> None:
        self.bad = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=errors,
            disable=not shown,
        )
        self._maps: TaskID | None = None
        if planned.segmenter is not None:
            pictures = (len(planned.training) + len(planned.validation)) // processes
            self._maps = self._progress.add_task("class maps", total=pictures, note="")
        steps = planned.schedule.steps
        self._steps = self._progress.add_task("training", total=steps, note="", start=False)

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def made(self, files: int) -> None:
        """Count pictures that have their class map."""
        if self._maps is not None:
            self._progress.advance(self._maps, files)

    def watch(self, report: Report) -> None:
        """Show the progress of the training."""
        self.bad = report.bad
        note = f"loss {report.loss:.3f}, {report.photographs_per_second:.0f} photographs/s"
        if report.bad:
            note += f", {report.bad} bad"
        self._progress.start_task(self._steps)
        self._progress.update(self._steps, completed=report.step, note=note)


def facts_of(planned: TrainingPlan) -> list[Fact]:
    """Return what `geotag train --dry-run` prints; each line fits 80 columns."""
    config, schedule, takes = planned.config, planned.schedule, cost(planned)
    labels = (planned.training.labels >= 0).sum(axis=0).tolist()
    heads = ("coarse", "middle", "fine", "scene")
    cells = "/".join(f"{len(p):,}" for p in planned.hierarchy.partitions)
    maps = planned.segmenter
    return [
        Fact("to train on", f"{len(planned.training):,} photographs"),
        *(
            Fact(f"with a {head} label", f"{count:,}")
            for head, count in zip(heads, labels, strict=True)
        ),
        Fact("to validate on", f"{len(planned.validation):,} photographs"),
        Fact("cells", f"{cells} (coarse, middle, fine)"),
        Fact("network", f"{config.network.preset}, {planned.network.branches}"),
        Fact("crops", f"{planned.network.crop_size} px of {planned.network.image_size} px"),
        Fact(
            "class maps",
            f"{len(maps.classes)} classes, network {maps.sha256[:12]}" if maps else "none",
        ),
        Fact("parameters", f"{takes.parameters:,}, of which {takes.learning:,} learn"),
        Fact("steps", f"{schedule.steps:,} of {config.training.batch} photographs"),
        Fact(
            "in each process",
            f"{schedule.accumulate} micro-batches of {schedule.micro_batch} a step",
        ),
        Fact("its memory", f"{_size(takes.state_bytes)} for weights, gradients and optimiser"),
        Fact("", f"about {_size(takes.activation_bytes)} for a micro-batch in fp32"),
        Fact("out", str(config.out), Shorten.MIDDLE),
    ]


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
