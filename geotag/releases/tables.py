"""Print releases: `geotag releases list` and `show`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.markdown import Markdown

from db.releases import registered_releases
from deploy import model_control
from geotag import exits
from geotag.context import Context
from geotag.output import console, errors, plain
from geotag.releases.lifecycle import directories
from geotag.tables import (
    Column,
    Fact,
    Row,
    Shorten,
    key_column,
    number_column,
    print_facts,
    print_table,
)
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
    *map(Column, ("digest", "calibrated", "location", "state")),
    number_column("unfinished runs"),
)


def print_releases(context: Context, *, wide: bool = False) -> None:
    """Print one line for each release that is on this machine or in the ledger."""
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
    print_table(_COLUMNS, rows, wide=wide, labels=1)


def print_release(release: Release, *, wide: bool = False) -> None:
    """Print a release's facts and its model card; `wide` shows every fact in full."""
    manifest = release.manifest
    size = sum(release.file(name).stat().st_size for name in FILES)
    cells = (f"{len(part)} {part.name}" for part in release.hierarchy.partitions)
    facts = [
        Fact("release", f"{release.name}, version {release.version}"),
        Fact("digest", release.digest, Shorten.MIDDLE),
        Fact("location", f"{release.directory} ({size / 1e6:.1f} MB)", Shorten.MIDDLE),
        Fact(
            "input",
            f"{manifest.image_size} x {manifest.image_size} px ({manifest.fit}),"
            f" crops: {manifest.crops}",
        ),
        Fact("cells", ", ".join(cells)),
        Fact("scenes", ", ".join(manifest.scenes)),
        Fact("calibrated", _word(release.calibrated)),
        Fact("segmentation", manifest.segmentation.sha256, Shorten.MIDDLE),
        Fact("locator", manifest.locator.sha256, Shorten.MIDDLE),
    ]
    if release.attributions:
        facts.append(Fact("attributions", str(release.file(ATTRIBUTIONS)), Shorten.MIDDLE))
    print_facts(facts, wide=wide)
    # A block of its own: its names are longer, and 80 columns have room for a whole digest above.
    provenance = manifest.provenance.items()
    print_facts([Fact(f"provenance: {k}", str(v)) for k, v in provenance], wide=wide)
    console.print()
    console.print(Markdown(release.file(MODEL_CARD).read_text()))


def _whole(directory: Path) -> Release | None:
    """Return the release in a directory; report a damaged one and return None."""
    try:
        return Release.load(directory)
    except ReleaseError as error:
        errors.print("[yellow]damaged:[/yellow]", plain(f"{directory.name}: {error}"))
        return None


def _where(release: Release | None) -> str:
    if release is None:
        return "not here"
    return "package" if release.directory.parent == RELEASES else "data folder"


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def _if_up(name: str, ask: Callable[[], Found]) -> Found | None:
    """Return what a server answers; report an unavailable one and return None."""
    try:
        return ask()
    except Exception as error:
        failure = exits.explain(error)
        if failure is None:
            raise
        errors.print(f"[dim]{name} does not answer: {plain(failure.message)}[/dim]")
        return None
