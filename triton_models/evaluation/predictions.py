"""Read predictions: our results, and files as other projects publish them.

Ours: a column each of ID, LONGITUDE and LATITUDE (tables.py), and where there are any ``state``,
``confidence`` and ``scene``; that is what ``geotag results --format csv|json`` prints. Others':
``img_id, gt_lat, predicted_lat, gt_long, predicted_long, great_circle_distance``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from triton_models.cells.distance import great_circle_km
from triton_models.evaluation.tables import (
    ID,
    LATITUDE,
    LONGITUDE,
    Effect,
    EvaluationError,
    Problem,
    Remark,
    Row,
    Table,
    is_blank,
    number,
    position,
    read_table,
)
from triton_models.evaluation.truth import Record, Truths, truths_of

_THEIRS = ("gt_lat", "predicted_lat", "gt_long", "predicted_long")
_SUMMARIES = {"accuracy", "average", "mean", "median", "total", "sum", "std", "min", "max", "count"}


class AnswerState(StrEnum):
    """The state of a photograph. Only ANSWERED has a position; all others count as a miss."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"
    FAILED = "failed"
    INVALID = "invalid"
    """The prediction is no position, or contradicts another one of the same id."""
    MISSING = "missing"
    """There is no prediction, but another system has one."""


_STATES = {
    "geotagged": AnswerState.ANSWERED,
    "abstained": AnswerState.ABSTAINED,
    "failed": AnswerState.FAILED,
    "quarantined": AnswerState.FAILED,
}


@dataclass(frozen=True)
class PredictionRow:
    """A system's answer for one photograph; degrees, WGS 84; NaN without an answer."""

    id: str
    line: int | None
    answer: AnswerState
    longitude: float = float("nan")
    latitude: float = float("nan")
    confidence: float = float("nan")
    """Probability that the true position is within 200 km."""
    scene: str | None = None

    @property
    def place(self) -> tuple[float, float]:
        """Longitude and latitude."""
        return self.longitude, self.latitude

    @property
    def has_place(self) -> bool:
        """Return whether it has a position."""
        return self.answer is AnswerState.ANSWERED


@dataclass(frozen=True)
class Predictions:
    """A system's answers by photograph, and the ground truth if its file has one."""

    name: str
    rows: Mapping[str, PredictionRow]
    remarks: tuple[Remark, ...]
    truths: Truths | None = None


def read_predictions(path: Path, name: str | None = None) -> Predictions:
    """Read a CSV or JSON file of predictions.

    Raises:
        EvaluationError: the file has neither of the two forms.
    """
    name = name or path.stem
    if path.suffix.lower() == ".json":
        return predictions_of(_json(path), name, path.name)
    table = read_table(path)
    if set(_THEIRS) <= set(table.columns):
        return _theirs(table, name)
    columns = {"id": table.column(ID)}
    columns |= {"longitude": table.column(LONGITUDE), "latitude": table.column(LATITUDE)}
    columns |= {c: c for c in ("state", "confidence", "scene") if c in table.columns}
    records = ({k: row.values[c] for k, c in columns.items()} for row in table.rows)
    lines = [row.line for row in table.rows]
    return predictions_of(records, name, table.source, lines, table.remarks)


def predictions_of(
    records: Iterable[Mapping[str, Any]],
    name: str,
    source: str,
    lines: Iterable[int] | None = None,
    remarks: Iterable[Remark] = (),
) -> Predictions:
    """Our own results: ``id`` or ``key``, longitude, latitude, and state, confidence, scene if any.

    Without a state, a row without coordinates abstains. A row that is still ``pending`` is no
    answer yet, and is left out.
    """
    said = list(remarks)
    found: list[PredictionRow] = []
    numbered = iter(lines) if lines is not None else None
    for record in records:
        line = next(numbered) if numbered else None
        text = {k: "" if v is None else str(v).strip() for k, v in record.items()}
        written = record.get("id") or record.get("key")
        key = "" if written is None else str(written)  # spaces at its ends are part of a key
        if not key or text.get("state") == "pending":
            said.append(Remark(source, line, key or None, "pending" if key else "missing_id"))
            continue
        found.append(_ours(key, line, text, source, said))
    return Predictions(name, by_id(found, source, said), tuple(said))


def _ours(
    key: str, line: int | None, text: Mapping[str, str], source: str, said: list[Remark]
) -> PredictionRow:
    lon, lat, scene = text.get("longitude", ""), text.get("latitude", ""), text.get("scene") or None
    state = text.get("state", "")
    answer = _STATES.get(state, AnswerState.INVALID)
    if not state:
        answer = AnswerState.ABSTAINED if is_blank(lon) and is_blank(lat) else AnswerState.ANSWERED
    elif answer is AnswerState.INVALID:
        said.append(Remark(source, line, key, "unknown_state", state, Effect.MISS))
    if answer is not AnswerState.ANSWERED:
        return PredictionRow(key, line, answer, scene=scene)
    place = position(lon, lat)
    if isinstance(place, Problem):
        said.append(Remark(source, line, key, place.reason, place.detail, Effect.MISS))
        return PredictionRow(key, line, AnswerState.INVALID, scene=scene)
    stated = text.get("confidence", "")
    confidence = number(stated)
    if not is_blank(stated) and (confidence is None or not 0 <= confidence <= 1):
        said.append(Remark(source, line, key, "confidence_out_of_range", stated, Effect.USED))
        confidence = None
    known = float("nan") if confidence is None else confidence
    return PredictionRow(key, line, answer, *place, confidence=known, scene=scene)


def _theirs(table: Table, name: str) -> Predictions:
    """Read a file that has truth and prediction; compute its distances again and compare them."""
    column, *coordinates = (table.column(names) for names in (ID, *((c,) for c in _THEIRS)))
    said = list(table.remarks)
    found: list[PredictionRow] = []
    records: list[Record] = []
    for row in table.rows:
        key = row.values[column]
        gt_lat, lat, gt_long, long = (row.values[c] for c in coordinates)
        truth, place = position(gt_long, gt_lat), position(long, lat)
        silent = bool(key) and all(map(is_blank, (gt_lat, lat, gt_long, long)))
        no_pair = not (silent or _numbers(gt_long, gt_lat) or _numbers(long, lat))
        if no_pair or key.casefold().split("@")[0].strip(": ") in _SUMMARIES:
            said.append(Remark(table.source, row.line, key or None, "summary_row"))
            continue
        records.append(Record(row.line, key, gt_long, gt_lat))
        if not key:
            continue  # the truths have a remark on it
        if is_blank(long) and is_blank(lat):
            found.append(PredictionRow(key, row.line, AnswerState.ABSTAINED))
        elif isinstance(place, Problem):
            detail = f"predicted {place.detail}"
            said.append(Remark(table.source, row.line, key, place.reason, detail, Effect.MISS))
            found.append(PredictionRow(key, row.line, AnswerState.INVALID))
        else:
            found.append(PredictionRow(key, row.line, AnswerState.ANSWERED, *place))
            if not isinstance(truth, Problem):
                _compare_distance(row, key, float(great_circle_km(*truth, *place)), table, said)
    rows = by_id(found, table.source, said)
    return Predictions(name, rows, tuple(said), truths_of(table.source, records))


def _numbers(*texts: str) -> bool:
    return all(number(text) is not None for text in texts)


def _compare_distance(row: Row, key: str, km: float, table: Table, said: list[Remark]) -> None:
    """Return a remark on a stated distance that is wrong by over 1 % and over 1 km."""
    stated = number(row.values.get("great_circle_distance", ""))
    if stated is not None and abs(stated - km) > max(1.0, 0.01 * km):
        detail = f"stated {stated:.1f} km, is {km:.1f} km"
        said.append(Remark(table.source, row.line, key, "distance_differs", detail, Effect.USED))


def by_id(
    found: Iterable[PredictionRow], source: str, said: list[Remark]
) -> dict[str, PredictionRow]:
    """Return one prediction an id: the first of equal ones; none, a miss, if they differ."""
    rows: dict[str, PredictionRow] = {}
    for row in found:
        first = rows.setdefault(row.id, row)
        if first is row:
            continue
        where = f"first on line {first.line}" if first.line else ""
        if first.answer is row.answer and (not row.has_place or first.place == row.place):
            said.append(Remark(source, row.line, row.id, "duplicate_id", where))
        else:
            rows[row.id] = PredictionRow(row.id, first.line, AnswerState.INVALID, scene=first.scene)
            said.append(Remark(source, row.line, row.id, "contradictory_id", where, Effect.MISS))
    return rows


def _json(path: Path) -> list[Mapping[str, Any]]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise EvaluationError(f"{path}: no JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise EvaluationError(f"{path}: not an array of objects, as geotag results prints")
    return records
