"""Read true positions: benchmark files, and the ground truth in files of predictions."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from triton_models.cells.distance import Floats, great_circle_km
from triton_models.evaluation.tables import (
    ID,
    LATITUDE,
    LONGITUDE,
    Effect,
    Problem,
    Remark,
    position,
    read_table,
)
from triton_models.scenes.classes import SCENES

_SAME_KM = 0.1
"""Positions nearer than this are equal: files round coordinates differently."""


@dataclass(frozen=True, eq=False)
class Truths:
    """True positions in degrees (WGS 84), [n], and the scene if the file has one."""

    source: str
    ids: tuple[str, ...]
    lines: tuple[int, ...]
    longitude: Floats
    latitude: Floats
    scenes: tuple[str | None, ...]
    remarks: tuple[Remark, ...]
    """Remarks on what is not used of the file."""

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, k: int) -> tuple[float, float]:
        """Return longitude and latitude of one of them."""
        return float(self.longitude[k]), float(self.latitude[k])

    def only(self, keep: Iterable[bool], remarks: Iterable[Remark] = ()) -> "Truths":
        """Return some of them, with remarks on why the others are left out."""
        rows = [k for k, kept in enumerate(keep) if kept]
        return replace(
            self,
            ids=tuple(self.ids[k] for k in rows),
            lines=tuple(self.lines[k] for k in rows),
            longitude=self.longitude[rows],
            latitude=self.latitude[rows],
            scenes=tuple(self.scenes[k] for k in rows),
            remarks=(*self.remarks, *remarks),
        )


@dataclass(frozen=True)
class Record:
    """One row of truth, as written."""

    line: int
    id: str
    longitude: str
    latitude: str
    scene: str = ""


def read_truths(path: Path) -> Truths:
    """Read truth: a column each of ID, LONGITUDE and LATITUDE (tables.py), perhaps a scene.

    The scene is ``S3_Label`` (0, 1, 2) or ``scene`` (indoor, natural, urban).

    Raises EvaluationError where the file or one of the columns cannot be read.
    """
    table = read_table(path)
    name, lon, lat = (table.column(names) for names in (ID, LONGITUDE, LATITUDE))
    scene = table.optional(("s3_label", "scene"))
    records = (
        Record(
            line=row.line,
            id=row.values[name],
            longitude=row.values[lon],
            latitude=row.values[lat],
            scene=row.values[scene] if scene else "",
        )
        for row in table.rows
    )
    return truths_of(path.name, records, table.remarks)


def truths_of(source: str, records: Iterable[Record], remarks: Iterable[Remark] = ()) -> Truths:
    """Return the usable truths among records; each of the others becomes a remark.

    Of rows with the same id and position the first is used. An id with two positions is not used.
    0° N 0° E is not used: programs write it for a missing position.
    """
    said = list(remarks)
    found: dict[str, tuple[Record, float, float]] = {}
    ambiguous: set[str] = set()
    for record in records:
        place = position(record.longitude, record.latitude)
        if not record.id:
            place = Problem("missing_id", "")
        elif place == (0.0, 0.0):
            place = Problem("null_island", "longitude 0, latitude 0")
        elif not isinstance(place, Problem) and record.id in found:
            first, *before = found[record.id]
            if _far(before, place):
                ambiguous.add(record.id)
            place = Problem("duplicate_id", f"first on line {first.line}")
        if isinstance(place, Problem):
            said.append(Remark(source, record.line, record.id or None, place.reason, place.detail))
        else:
            found[record.id] = (record, *place)
    for name in sorted(ambiguous):
        line = found.pop(name)[0].line
        said.append(Remark(source, line, name, "contradictory_id", "has several positions"))
    return Truths(
        source=source,
        ids=tuple(found),
        lines=tuple(record.line for record, _lon, _lat in found.values()),
        longitude=np.array([lon for _record, lon, _lat in found.values()], np.float64),
        latitude=np.array([lat for _record, _lon, lat in found.values()], np.float64),
        scenes=tuple(_scene(record.scene) for record, _lon, _lat in found.values()),
        remarks=tuple(said),
    )


def _far(one: Iterable[float], other: Iterable[float]) -> bool:
    return bool(great_circle_km(*one, *other) > _SAME_KM)


def _scene(written: str) -> str | None:
    label = written.casefold()
    if label in SCENES:
        return label
    return SCENES[int(label)] if label in ("0", "1", "2") else None


def with_pictures(truths: Truths, folder: Path) -> Truths:
    """Return only the truths whose id is the path of a file in the folder."""
    there = [(folder / name).is_file() for name in truths.ids]
    missing = [
        Remark(truths.source, truths.lines[k], truths.ids[k], "no_picture")
        for k, is_there in enumerate(there)
        if not is_there
    ]
    return truths.only(there, missing)


def contradictions(truths: Truths, other: Truths) -> list[Remark]:
    """Return remarks on rows of another source with other positions than the truths have."""
    known = {name: k for k, name in enumerate(truths.ids)}
    found = []
    for k, name in enumerate(other.ids):
        at = known.get(name)
        if at is not None and _far(truths.place(at), other.place(k)):
            detail = f"the truth of {truths.source} is used"
            found.append(
                Remark(other.source, other.lines[k], name, "contradicts_truth", detail, Effect.USED)
            )
    return found


def merge(first: Truths, other: Truths) -> Truths:
    """Return the truths of two sources; the first one's if both have an id."""
    known = set(first.ids)
    new = other.only((name not in known for name in other.ids), contradictions(first, other))
    return Truths(
        source=first.source,
        ids=first.ids + new.ids,
        lines=first.lines + new.lines,
        longitude=np.concatenate([first.longitude, new.longitude]),
        latitude=np.concatenate([first.latitude, new.latitude]),
        scenes=first.scenes + new.scenes,
        remarks=first.remarks + new.remarks,
    )
