"""`geotag partition`: build partitions of the Earth, and read the published ones."""

from pathlib import Path
from typing import Annotated

import typer

from geotag.formats import Small

app = typer.Typer(
    no_args_is_help=True, help="Build partitions of the Earth, and read the published ones."
)


@app.command("build")
def build_(
    coordinates: Annotated[Path, typer.Argument(help="CSV or Parquet with a position a row.")],
    out: Annotated[Path, typer.Option(help="Folder for the two tables.")],
    coarse_max: Annotated[int, typer.Option(help="Most photographs in a coarse cell.")] = 5000,
    middle_max: Annotated[int, typer.Option(help="Most photographs in a middle cell.")] = 2000,
    fine_max: Annotated[int, typer.Option(help="Most photographs in a fine cell.")] = 1000,
    min_count: Annotated[
        int, typer.Option("--min", help="Fewest photographs in a cell; see --small.")
    ] = 50,
    max_level: Annotated[int, typer.Option(min=0, max=30, help="Finest S2 level.")] = 30,
    small: Annotated[
        Small, typer.Option(help="What becomes of a cell with too few photographs.")
    ] = Small.DROP,
    longitude_column: Annotated[str | None, typer.Option(help="Its name.")] = None,
    latitude_column: Annotated[str | None, typer.Option(help="Its name.")] = None,
) -> None:
    """Divide the Earth into coarse, middle and fine cells by where photographs were taken."""
    from geotag.partitions.partition import build

    build(
        coordinates,
        out,
        coarse_max=coarse_max,
        middle_max=middle_max,
        fine_max=fine_max,
        min_count=min_count,
        max_level=max_level,
        small=small.value,
        longitude_column=longitude_column,
        latitude_column=latitude_column,
    )


@app.command("tokens")
def tokens(
    path: Annotated[Path, typer.Argument(help="A published CSV, or a table of ours.")],
    partition: Annotated[
        str | None, typer.Option(help="Of our table: coarse, middle or fine.")
    ] = None,
) -> None:
    """Print a partition's S2 tokens in the file's order; damaged ones are repaired and reported."""
    from geotag.partitions.partition import print_tokens

    print_tokens(path, partition)
