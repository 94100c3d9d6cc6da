"""Make a segmentation network from photographs and a teacher (docs/segmentation.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triton_models.segmentation.maps import Maps
from triton_models.segmentation.photographs import Unusable, digest, listed, read, readable

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Folder = Annotated[Path, typer.Argument(help="A folder of pictures with its metadata.csv.")]
MapsFile = Annotated[Path, typer.Argument(help="What `teach` wrote.")]
Student = Annotated[Path, typer.Argument(help="The weights that `train` wrote (NAME.pt).")]
Graph = Annotated[Path, typer.Argument(help="A segmentation network (NAME.onnx, with NAME.json).")]
errors = Console(stderr=True)


class Bars:
    """One progress bar for each task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Update the bar of the task `what`."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done)  # type: ignore[arg-type]


@contextmanager
def bars() -> Iterator[Bars]:
    """Show progress bars on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=errors) as progress:
        yield Bars(progress)


@app.command()
def teach(
    folder: Folder,
    teacher: Annotated[Path, typer.Option(help="The teacher: a .tflite file.")],
    out: Annotated[Path, typer.Option(help="Where its maps go (.npz).")],
    size: Annotated[int, typer.Option(help="Side of the maps, in pixels.")] = 256,
) -> None:
    """Compute the teacher's maps of several views of every picture; skip unreadable pictures."""
    from triton_models.segmentation.teacher import Teacher, maps

    network, photographs = Teacher(teacher), listed(folder)
    files, found, skipped = [], [], []
    with bars() as report:
        for photo, picture in readable(folder, photographs, size):
            if picture is None:
                skipped.append(photo.file)
            else:
                files.append(photo.file)
                found.append(maps(network, picture))
            report("teach", len(files) + len(skipped), len(photographs))
    if not files:
        raise Unusable(f"{folder}: none of the {len(photographs)} pictures can be read")
    Maps(files, np.stack(found), network.sha256).save(out)
    errors.print(f"{len(files)} pictures; skipped {len(skipped)}: {', '.join(skipped) or 'none'}")


@app.command()
def train(
    folder: Folder,
    maps: MapsFile,
    out: Annotated[Path, typer.Option(help="Where the weights go (NAME.pt, with NAME.json).")],
    epochs: Annotated[int | None, typer.Option(help="How often each picture is seen.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same weights.")] = None,
    all_pictures: Annotated[bool, typer.Option(help="Hold no series back for scoring.")] = False,
) -> None:
    """Train a student on the teacher's maps, without the held-out series."""
    from triton_models.segmentation import student, training
    from triton_models.segmentation.classes import target

    given = {k: v for k, v in {"epochs": epochs, "seed": seed}.items() if v is not None}
    recipe = replace(training.Recipe(), **given)
    taught = Maps.load(maps)
    rows = taught.rows([p for p in listed(folder) if all_pictures or not training.held_out(p)])
    pictures = [read(folder / photo.file, taught.size) for photo, _ in rows]
    network = student.untrained(recipe.seed)
    with bars() as report:
        targets = [target(taught.ids[row]) for _, row in rows]
        seen = training.encode(network, pictures, targets, recipe, report)
        losses = training.train(network, seen, recipe, report)
    learnt_from = {
        "photographs": len(rows),
        "photographs_sha256": digest([photo for photo, _ in rows]),
        "teacher_sha256": taught.teacher_sha256,
        "recipe": asdict(recipe),
        "last_loss": losses[-1],
    }
    student.save(network, out, learnt_from)
    errors.print(f"{out}: {len(rows)} pictures, loss {losses[0]:.3f} → {losses[-1]:.3f}")


@app.command()
def export(weights: Student) -> None:
    """Write NAME.onnx beside NAME.pt and verify its outputs."""
    from triton_models.segmentation import student

    errors.print(f"{student.export(weights)}")


@app.command()
def score(
    folder: Folder,
    maps: MapsFile,
    graph: Graph,
    teacher: Annotated[Path | None, typer.Option(help="Measure its speed too (.tflite).")] = None,
    everything: Annotated[
        bool, typer.Option(help="Every picture, not only held-out ones.")
    ] = False,
) -> None:
    """Compare with the teacher's maps for each class, and with the trivial answer."""
    from triton_models.segmentation import scoring
    from triton_models.segmentation.classes import CLASSES, target
    from triton_models.segmentation.training import held_out
    from triton_models.training.semantics import Segmenter

    network, taught, photographs = Segmenter(graph), Maps.load(maps), listed(folder)
    kept = taught.rows([photo for photo in photographs if everything or held_out(photo)])
    seen = taught.rows([photo for photo in photographs if not held_out(photo)])
    trivial = scoring.commonest((target(taught.ids[row]) for _, row in seen), len(CLASSES))
    ours, baseline = scoring.Agreement(CLASSES), scoring.Agreement(CLASSES)
    with bars() as report:
        for done, (photo, row) in enumerate(kept, start=1):
            truth = target(taught.ids[row])
            ours.add(truth, network(read(folder / photo.file, taught.size)[None])[0])
            baseline.add(truth, trivial)
            report("score", done, len(kept))
    print(f"{len(kept)} pictures\n\n{scoring.table(ours, baseline)}\n")
    some = [read(folder / photo.file, taught.size) for photo, _ in kept[:50]]
    speed = scoring.milliseconds(lambda picture: network(picture[None]), some)
    print(f"{graph.name}: {speed:.1f} ms of processor time a picture (ONNX Runtime)")
    if teacher is not None:
        from triton_models.segmentation.teacher import Teacher

        asked = Teacher(teacher)
        larger = [read(folder / photo.file, asked.size) for photo, _ in kept[:50]]
        speed = scoring.milliseconds(asked, larger)
        print(f"{teacher.name}: {speed:.1f} ms of processor time a picture")


@app.command()
def overlay(
    folder: Folder,
    graph: Graph,
    out: Annotated[Path, typer.Option(help="Where the sheet goes (.png).")],
    maps: Annotated[Path | None, typer.Option(help="Show what it was taught as well.")] = None,
    pictures: Annotated[int, typer.Option(help="How many pictures.")] = 24,
    everything: Annotated[bool, typer.Option(help="Any picture, not only held-out ones.")] = False,
    seed: Annotated[int, typer.Option(help="Which pictures.")] = 0,
) -> None:
    """Draw a contact sheet: picture, the network's map and the teacher's map."""
    from triton_models.segmentation.classes import CLASSES, target
    from triton_models.segmentation.overlays import contact_sheet, overlay
    from triton_models.segmentation.training import held_out
    from triton_models.training.semantics import Segmenter

    network = Segmenter(graph)
    photographs = [photo for photo in listed(folder) if everything or held_out(photo)]
    taught = None if maps is None else Maps.load(maps)
    order = np.random.default_rng(seed).permutation(len(photographs))[:pictures]
    tiles = []
    for photo in (photographs[k] for k in order):
        picture = read(folder / photo.file, 256)
        tiles += [picture, overlay(picture, network(picture[None])[0])]
        if taught is not None:
            tiles += [overlay(picture, target(taught.ids[row])) for _, row in taught.rows([photo])]
    wide = 9 if taught is not None else 8
    rows = [tiles[k : k + wide] for k in range(0, len(tiles) // wide * wide, wide)]
    contact_sheet(rows, CLASSES).save(out)


def main() -> None:
    """Run a command; an error that the user can fix is one line and exit code 2."""
    from triton_models.release.export import ExportMismatch
    from triton_models.training.config import ConfigError

    try:
        app()
    except (Unusable, ExportMismatch, ConfigError, OSError) as error:
        errors.print(f"[red]{error}[/red]")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
