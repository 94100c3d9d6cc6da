"""Render an evaluation as one HTML page without scripts, requests or other files."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from triton_models.answer.radii import RADII_KM
from triton_models.cells.gazetteer import ATTRIBUTION
from triton_models.evaluation import charts
from triton_models.evaluation.charts import Plot
from triton_models.evaluation.document import RADII, Document
from triton_models.evaluation.matching import Matched, System
from triton_models.evaluation.truth import Truths

MOST_LINES = 600
"""Photographs drawn on a map: beyond that an even sample over the ranked errors."""

_TEMPLATES = Path(__file__).parents[1] / "templates"
_WIDE, _HALF, _SQUARE = Plot(1000, 320), Plot(400, 300), Plot(360, 360)
_TICKS_KM = (0.1, 1, 10, 100, 1000, 10_000)


def html_report(document: Document, matched: Matched) -> str:
    """Return the page for a document and the matched photographs that it was made from."""
    return (
        _environment()
        .get_template("evaluation.html.j2")
        .render(
            document=document,
            radii=RADII,
            systems=[
                {
                    "scores": scores,
                    "map": _map(system, matched.truths),
                    "reliability": _reliability(scores["calibration"]),
                    "coverage": _coverage(scores["coverage"]),
                }
                for system, scores in zip(matched.systems, document["systems"], strict=True)
            ],
            distribution=_distribution(matched),
            land=charts.land(),
            graticule=charts.graticule(),
            attribution=ATTRIBUTION,
            classes=[*(f"≤ {radius} km" for radius in RADII), f"> {RADII[-1]} km"],
            wide=_WIDE,
            half=_HALF,
            square=_SQUARE,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": fixed, "place": place}
    return environment


def fixed(value: float | None, digits: int = 1) -> str:
    """Return a number with separated thousands and so many digits; a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def place(position: tuple[float, float]) -> str:
    """Return a position, latitude first: `48.86° N, 2.29° E`."""
    longitude, latitude = position
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return f"{abs(latitude):.2f}° {north}, {abs(longitude):.2f}° {east}"


def _map(system: System, truths: Truths) -> dict[str, Any]:
    """Return lines from truth to prediction; the longest come first and lie below the others."""
    answered = np.flatnonzero(~np.isnan(system.error_km))
    order = answered[np.argsort(-system.error_km[answered], kind="stable")]
    drawn = charts.spread_evenly(order.tolist(), MOST_LINES)
    classes = charts.error_class(system.error_km[answered])
    lines = []
    for k in drawn:
        true, predicted = truths.place(k), (float(system.longitude[k]), float(system.latitude[k]))
        x, y = charts.project(*true)
        lines.append(
            {
                "id": truths.ids[k],
                "km": float(system.error_km[k]),
                "kind": int(charts.error_class(system.error_km[[k]])[0]),
                "path": charts.arc(true, predicted),
                "x": f"{float(x):.1f}",
                "y": f"{float(y):.1f}",
            }
        )
    return {
        "lines": lines,
        "answered": len(answered),
        "counts": np.bincount(classes, minlength=len(RADII_KM) + 1).tolist(),
    }


def _distribution(matched: Matched) -> dict[str, Any]:
    curves = [
        {
            "name": system.name,
            "path": _WIDE.line(charts.distribution(system.error_km), steps=True),
        }
        for system in matched.systems
    ]
    ticks = [(f"{km:,g}", _WIDE.at(charts.log_share(km), 0)[0]) for km in _TICKS_KM]
    radii = [_WIDE.at(charts.log_share(km), 0)[0] for km in RADII_KM]
    return {"curves": curves, "ticks": ticks, "radii": radii}


def _reliability(calibration: Document | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    most = max(b["count"] for b in calibration["bins"])
    points = []
    for b in calibration["bins"]:
        if b["count"]:
            x, y = _SQUARE.at(b["confidence"], b["hits"])
            low, high = (_SQUARE.at(0, end)[1] for end in b["interval"])
            points.append(b | {"x": x, "y": y, "low_y": low, "high_y": high})
    bars = [
        {"x": _SQUARE.at(b["low"], 0)[0], "height": 40 * b["count"] / most, "count": b["count"]}
        for b in calibration["bins"]
    ]
    return {"points": points, "bars": bars, "bar_width": _SQUARE.width / len(bars)}


def _coverage(points: list[Document]) -> list[dict[str, Any]] | None:
    """Return a curve for each radius; empty if no confidence is stated."""
    if len(points) < 2:
        return None
    curves = []
    for kind, radius in enumerate(RADII):
        shares = [(p["coverage"] / 100, p["accuracy"][radius] / 100) for p in points]
        curves.append({"kind": kind, "radius": radius, "path": _HALF.line(shares)})
    return curves
