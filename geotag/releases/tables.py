"""`geotag releases list` and `show`: releases, as tables."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.markdown import Markdown
from rich.table import Table

from db.releases import registered_releases
from deploy import model_control
from geotag import exits
from geotag.context import Context
from geotag.output import console, errors, plain
from geotag.releases.lifecycle import directories
from geotag.tables import Column, Row, key_column, number_column, print_table
from triton_models.release.release import (
    ATTRIBUTIONS,
    FILES,
    MODEL_CARD,
    RELEASES,
    Release,
    ReleaseError,
)

Found = TypeVar("Found")

_COLUMNS = (
    key_column("release"),
    *map(Column, ("digest", "calibrated", "lies", "state")),
    number_column("unfinished runs"),
)


def print_releases(context: Context, *, wide: bool = False) -> None:
    """Print one line for each release that is at hand or registered."""
    here = {
        release.name: release
        for release in map(_whole, directories(context.settings).values())
        if release
    }
    ledger = _if_up("the ledger", lambda: registered_releases(context.engine))
    served = _if_up("Triton", lambda: model_control.ready(context.settings.worker.triton_url))
    known = {release.name: release for release in ledger or ()}
    rows: list[Row] = []
    for name in sorted(here.keys() | known.keys()):
        ours = known.get(name)
        either = here.get(name) or known[name]
        states = {
            "registered": ours is not None,
            "served": f"geotag_{name}" in (served or ()),
            "active": ours is not None and ours.active,
        }
        rows.append(
            (
                name,
                either.digest[:12],
                _word(either.calibrated),
                _where(here.get(name)),
                ", ".join(state for state, true in states.items() if true),
                str(ours.runs) if ours else "",
            )
        )
    print_table(_COLUMNS, rows, wide=wide)


def print_release(release: Release) -> None:
    """The facts of a release, and its model card."""
    manifest = release.manifest
    size = sum(release.file(name).stat().st_size for name in FILES)
    cells = (f"{len(part)} {part.name}" for part in release.hierarchy.partitions)
    facts = {
        "release": f"{release.name}, version {release.version}",
        "digest": release.digest,
        "lies": f"{release.directory} ({size / 1e6:.1f} MB)",
        "takes": f"{manifest.image_size} x {manifest.image_size} px ({manifest.fit}),"
        f" crops: {manifest.crops}",
        "cells": ", ".join(cells),
        "scenes": ", ".join(manifest.scenes),
        "calibrated": _word(release.calibrated),
        "segmentation": manifest.segmentation.sha256,
        "locator": manifest.locator.sha256,
        **{f"provenance: {key}": str(value) for key, value in manifest.provenance.items()},
        **({"attributions": str(release.file(ATTRIBUTIONS))} if release.attributions else {}),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(plain(name), plain(value))
    table.columns[1].overflow = "fold"  # a digest is whole, or no digest
    console.print(table)
    console.print()
    console.print(Markdown(release.file(MODEL_CARD).read_text()))


def _whole(directory: Path) -> Release | None:
    """The release in a directory; None, said on standard error, where it is damaged."""
    try:
        return Release.load(directory)
    except ReleaseError as error:
        errors.print("[yellow]damaged:[/yellow]", plain(f"{directory.name}: {error}"))
        return None


def _where(release: Release | None) -> str:
    if release is None:
        return "elsewhere"
    return "package" if release.directory.parent == RELEASES else "data folder"


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _if_up(name: str, ask: Callable[[], Found]) -> Found | None:
    """What a server says; None, said on standard error, where it is away."""
    try:
        return ask()
    except Exception as error:
        failure = exits.explain(error)
        if failure is None:
            raise
        errors.print(f"[dim]{name} does not answer: {plain(failure.message)}[/dim]")
        return None
