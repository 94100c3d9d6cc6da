"""Read Triton's answer as a `Prediction`, and check it against the wire contract.

The contract (tensor names, types and shapes) is in docs/architecture.md.
"""

import math
import struct
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from db.schema import RADII_KM, REGION_LEVELS, SCENES
from workers.errors import InferenceMalformed

Tensors = dict[str, NDArray[np.generic]]
"""Tensors by name, without the batch axis."""

_TEXT, _REAL = "O", "f"  # kinds of numpy.dtype
_CONTRACT: dict[str, tuple[str, tuple[int, ...]]] = {
    "POSITION": (_REAL, (2,)),
    "CELLS": (_TEXT, (3,)),
    "CELL_PROBABILITIES": (_REAL, (3,)),
    "CONFIDENCE": (_REAL, (len(RADII_KM),)),
    "CANDIDATE_CELLS": (_TEXT, (10,)),
    "CANDIDATE_PROBABILITIES": (_REAL, (10,)),
    "REGION_CELLS": (_TEXT, (len(REGION_LEVELS), 64)),
    "REGION_PROBABILITIES": (_REAL, (len(REGION_LEVELS), 64)),
    "SCENE": (_REAL, (len(SCENES),)),
    "ABSTENTION": (_TEXT, (1,)),
    "RELEASE": (_TEXT, (1,)),
}
OUTPUTS = tuple(_CONTRACT)
"""The tensors to ask for."""


@dataclass(frozen=True)
class CellProbability:
    """An S2 cell by its token, and its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The answer of a release about one picture.

    Longitude and latitude in degrees, WGS 84. `confidence` maps a radius in km to the calibrated
    probability that the place lies within it; None where that is not known. `coarse` and `middle`
    are None where the fine cell lies in no cell of that partition.
    """

    release_digest: str
    longitude: float
    latitude: float
    coarse: CellProbability | None
    middle: CellProbability | None
    fine: CellProbability
    confidence: dict[int, float | None]
    candidates: tuple[CellProbability, ...]
    regions: dict[int, tuple[CellProbability, ...]]
    scene: dict[str, float]
    abstention: str | None


def read_answer(answer: triton.InferResult) -> Prediction:
    """Return the prediction in an answer to a request of one picture.

    Raises:
        InferenceMalformed: the answer breaks the wire contract.
    """
    return prediction_of({name: _tensor(answer, name) for name in OUTPUTS})


def prediction_of(tensors: Tensors) -> Prediction:
    """Return the prediction in tensors of the contract's types and shapes.

    Raises:
        InferenceMalformed: a value is none that can be: no fine cell, a position that is not on
            Earth, a probability that is not within 0 and 1.
    """
    coarse, middle, fine = (
        _cell(token, mass) if token else None
        for token, mass in _pairs(tensors["CELLS"], tensors["CELL_PROBABILITIES"])
    )
    if fine is None:
        raise InferenceMalformed("Triton's answer names no fine cell")
    longitude, latitude = tensors["POSITION"].tolist()
    return Prediction(
        release_digest=_text(tensors["RELEASE"].item()),
        longitude=_within("longitude", longitude, -180, 180),
        latitude=_within("latitude", latitude, -90, 90),
        coarse=coarse,
        middle=middle,
        fine=fine,
        confidence={
            radius: None if math.isnan(value) else _probability(value)
            for radius, value in zip(RADII_KM, tensors["CONFIDENCE"].tolist(), strict=True)
        },
        candidates=_cells(tensors["CANDIDATE_CELLS"], tensors["CANDIDATE_PROBABILITIES"]),
        regions={
            level: _cells(tensors["REGION_CELLS"][i], tensors["REGION_PROBABILITIES"][i])
            for i, level in enumerate(REGION_LEVELS)
        },
        scene=dict(zip(SCENES, map(_probability, tensors["SCENE"].tolist()), strict=True)),
        abstention=_text(tensors["ABSTENTION"].item()) or None,
    )


def _tensor(answer: triton.InferResult, name: str) -> NDArray[np.generic]:
    kind, shape = _CONTRACT[name]
    try:
        tensor = answer.as_numpy(name)
    except (ValueError, struct.error) as error:  # bytes that do not fill the declared shape
        raise InferenceMalformed(f"Triton's answer has an unreadable {name}: {error}") from error
    if tensor is None:
        raise InferenceMalformed(f"Triton's answer has no {name}")
    if tensor.dtype.kind != kind or tensor.shape != (1, *shape):
        raise InferenceMalformed(
            f"{name} in Triton's answer is {tensor.dtype} {list(tensor.shape)}, which the wire"
            " contract does not allow"
        )
    one: NDArray[np.generic] = tensor[0]
    return one


def _pairs(tokens: NDArray[np.generic], masses: NDArray[np.generic]) -> list[tuple[bytes, float]]:
    return list(zip(tokens.tolist(), masses.tolist(), strict=True))


def _cells(tokens: NDArray[np.generic], masses: NDArray[np.generic]) -> tuple[CellProbability, ...]:
    """Return the cells before the padding, whose tokens are empty."""
    return tuple(_cell(token, mass) for token, mass in _pairs(tokens, masses) if token)


def _cell(token: bytes, mass: float) -> CellProbability:
    return CellProbability(_text(token), _probability(mass))


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InferenceMalformed(f"Triton's answer has a text that is none: {error}") from error


def _probability(value: float) -> float:
    return _within("probability", value, 0, 1)


def _within(what: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:  # NaN is not
        raise InferenceMalformed(f"Triton's answer has the {what} {value}")
    return value
