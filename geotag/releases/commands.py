"""`geotag releases`: the releases at hand, which one answers, and how they are served."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Releases: list, build, register, activate.")

NameArgument = Annotated[str, typer.Argument(help="A release's name, or its directory.")]


class Target(StrEnum):
    """What Triton runs the networks on."""

    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


@app.command("list")
def list_(wide: WideOption = False) -> None:
    """Every release: where it lies, whether it is registered, served, active, calibrated."""
    from geotag.context import make_context
    from geotag.releases.tables import print_releases

    print_releases(make_context(), wide=wide)


@app.command()
def show(name: NameArgument) -> None:
    """What a release is made of, what it was trained on, and its model card."""
    from geotag.releases.lifecycle import find
    from geotag.releases.tables import print_release
    from geotag.settings import gather

    print_release(find(gather(), name))


@app.command("build")
def build_(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or directories; without one, the release of the settings."),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(
            help="cpu: Python backend with ONNX Runtime; gpu: onnxruntime backend (CUDA);"
            " tensorrt: the same, with TensorRT."
        ),
    ] = Target.CPU,
    out: Annotated[Path, typer.Option(help="Triton's model repository.")] = Path("models"),
    threads: Annotated[
        int, typer.Option(min=1, help="Cores that one batch of a network may use (cpu).")
    ] = 1,
) -> None:
    """Build a model repository for a Triton of your own, beside what it holds already."""
    from geotag.releases.lifecycle import find
    from geotag.settings import gather
    from triton_models.release.build import build

    settings = gather()
    for name in names or [settings.command.release]:
        release = find(settings, name)
        changed = build(release, out, target=target.value, threads=threads)
        typer.echo(f"{out}: {release.name} {'built' if changed else 'is there'} for {target.value}")


@app.command()
def make(
    run: Annotated[Path, typer.Argument(help="Folder of a run of geotag train that has ended.")],
    name: Annotated[str, typer.Option(help="The release's name: a-z, 0-9, . _ -")],
    out: Annotated[Path, typer.Option(help="Folder for the release NAME.")],
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="CSV of photographs to calibrate on, as geotag train reads it; those that the run"
            " learnt from are left out. Without it: the run's validation photographs."
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(help="Their folder, or s3://bucket/prefix; without it, that of the run."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photographs to take, evenly spread.")] = 2000,
    error_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Greatest share of answers more than 200 km off; without it, it always answers.",
        ),
    ] = None,
    attribution: Annotated[
        Path | None,
        typer.Option(help="Markdown for the model card: whose photographs, under which licence."),
    ] = None,
    version: Annotated[
        int, typer.Option(min=1, help="Number under which Triton holds its models.")
    ] = 1,
) -> None:
    """Make a calibrated release of what geotag train left.

    The network is asked about photographs that it did not learn from; on its answers its
    confidence is fitted, and its model card says how good they are.
    """
    from geotag.interruption import sigterm_interrupts
    from geotag.releases.making import run as make_release

    with sigterm_interrupts():
        digest = make_release(
            run,
            name,
            out,
            held_out=held_out,
            photos=photos,
            count=count,
            error_rate=error_rate,
            attribution=attribution,
            version=version,
        )
    typer.echo(f"{out / name}: {digest}")


@app.command()
def quantise(
    name: NameArgument,
    pictures: Annotated[Path, typer.Option(help="Folder of photographs of the kind it will see.")],
    out: Annotated[Path, typer.Option(help="Folder for the release NAME-int8.")],
    count: Annotated[int, typer.Option(min=1, help="Photographs to take, evenly spread.")] = 128,
) -> None:
    """Make NAME-int8: the same release in 8-bit integers, fitted to sample photographs."""
    from geotag.interruption import sigterm_interrupts
    from geotag.releases.lifecycle import find
    from geotag.releases.pictures import prepared
    from geotag.settings import gather
    from triton_models.release.quantise import quantise

    settings = gather()
    release = find(settings, name)
    _paths, samples = prepared(settings.worker, release, pictures, count)
    with sigterm_interrupts():
        made = quantise(release, out / f"{release.name}-int8", samples)
    typer.echo(f"{made.directory}: {made.digest}")


@app.command()
def register(
    directory: Annotated[Path, typer.Argument(help="A release: release.json, networks, cells.")],
) -> None:
    """Check a release, keep a copy of it, and record it with its cells in the ledger."""
    from geotag.context import make_context
    from geotag.releases import lifecycle

    release = lifecycle.register(make_context(), directory)
    typer.echo(f"{release.name} {release.digest[:12]} is registered")


@app.command()
def activate(name: Annotated[str, typer.Argument(help="A registered release.")]) -> None:
    """Have new runs ask for a release, once Triton has answered for it.

    Runs that are under way end with the release that they began with.
    """
    from geotag.context import make_context
    from geotag.releases import lifecycle

    started = time.monotonic()
    before, digest = lifecycle.activate(make_context(), name)
    _say_active(name, digest, before, started)


@app.command()
def rollback() -> None:
    """Activate the release that was active before this one; twice is back again."""
    from geotag.context import make_context
    from geotag.releases import lifecycle

    started = time.monotonic()
    before, name, digest = lifecycle.rollback(make_context())
    _say_active(name, digest, before, started)


def _say_active(name: str, digest: str, before: str | None, started: float) -> None:
    was = "" if before in (None, name) else f", {before} was before"
    typer.echo(f"{name} {digest[:12]} is active ({time.monotonic() - started:.1f} s){was}")
