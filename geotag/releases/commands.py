"""Commands on releases: list, show, build, make, quantise, register, activate, rollback."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Releases: list, build, register, activate.")

NameArgument = Annotated[str, typer.Argument(help="A release's name, or its directory.")]


class Target(StrEnum):
    """Hardware and backend on which Triton runs the networks."""

    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


@app.command("list")
def list_(wide: WideOption = False) -> None:
    """List the releases: location, and whether calibrated, registered, served and active."""
    from geotag.context import make_context
    from geotag.releases.tables import print_releases

    print_releases(make_context(), wide=wide)


@app.command()
def show(name: NameArgument, wide: WideOption = False) -> None:
    """Show a release's parts, provenance and model card."""
    from geotag.releases.lifecycle import find
    from geotag.releases.tables import print_release
    from geotag.settings import gather

    print_release(find(gather(), name), wide=wide)


@app.command("build")
def build_(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or directories. Default: GEOTAG_RELEASE."),
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
    """Build releases into a model repository for your own Triton. Other releases in it stay."""
    from geotag.releases.lifecycle import find
    from geotag.settings import gather
    from triton_models.release.build import build

    settings = gather()
    for name in names or [settings.command.release]:
        release = find(settings, name)
        changed = build(release, out, target=target.value, threads=threads)
        typer.echo(
            f"{out}: {release.name} {'built' if changed else 'already built'} for {target.value}"
        )


@app.command()
def make(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of geotag train.")],
    name: Annotated[str, typer.Option(help="The release's name: a-z, 0-9, . _ -")],
    out: Annotated[Path, typer.Option(help="Folder for the release NAME.")],
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="CSV of photographs to calibrate on, as geotag train reads it. Photographs that"
            " the run was trained on are left out. Default: the run's validation photographs."
        ),
    ] = None,
    photos: Annotated[
        str | None,
        typer.Option(help="Folder or s3://bucket/prefix of the photographs. Default: the run's."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photographs to take, evenly spread.")] = 2000,
    error_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Share of answers that may be over 200 km off. Default: never abstain.",
        ),
    ] = None,
    attribution: Annotated[
        Path | None,
        typer.Option(help="Markdown for the model card: authors and licences of the photographs."),
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Version of its models in Triton.")] = 1,
) -> None:
    """Make a calibrated release from a finished run of geotag train.

    The network answers for held-out photographs. Confidence is calibrated on these answers. The
    model card states their accuracy.
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
    pictures: Annotated[
        Path, typer.Option(help="Folder of photographs like those to be geotagged.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the release NAME-int8.")],
    count: Annotated[int, typer.Option(min=1, help="Photographs to take, evenly spread.")] = 128,
) -> None:
    """Make NAME-int8: the release quantised to 8-bit integers, calibrated on photographs."""
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
    directory: Annotated[
        Path, typer.Argument(help="Directory of a release: release.json, networks, cells.")
    ],
) -> None:
    """Check a release, copy it into the data folder, and record it in the ledger."""
    from geotag.context import make_context
    from geotag.releases import lifecycle

    release = lifecycle.register(make_context(), directory)
    typer.echo(f"{release.name} {release.digest[:12]} is registered")


@app.command()
def activate(name: Annotated[str, typer.Argument(help="A registered release.")]) -> None:
    """Make a release the one that new runs use, after checking that Triton serves it.

    Unfinished runs keep the release that they began with.
    """
    from geotag.context import make_context
    from geotag.releases import lifecycle

    started = time.monotonic()
    before, digest = lifecycle.activate(make_context(), name)
    _say_active(name, digest, before, started)


@app.command()
def rollback() -> None:
    """Activate the release that was active before. A second rollback undoes the first."""
    from geotag.context import make_context
    from geotag.releases import lifecycle

    started = time.monotonic()
    before, name, digest = lifecycle.rollback(make_context())
    _say_active(name, digest, before, started)


def _say_active(name: str, digest: str, before: str | None, started: float) -> None:
    was = "" if before in (None, name) else f", {before} was before"
    typer.echo(f"{name} {digest[:12]} is active ({time.monotonic() - started:.1f} s){was}")
