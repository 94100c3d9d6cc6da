"""Options that several commands share."""

from typing import Annotated

import typer

from geotag.formats import Format

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print it.")]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Show keys in full, however wide the table becomes.")
]
RunOption = Annotated[int | None, typer.Option("--run", help="Only this run.")]
