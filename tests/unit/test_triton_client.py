"""Triton's answers and errors as predictions and errors of the tree; unreachable addresses."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from db.schema import RADII_KM
from workers.chunks.prediction import CellProbability, prediction_of
from workers.chunks.triton_client import TritonClient, _inference_error
from workers.errors import (
    InferenceRefused,
    InferenceTimeout,
    InferenceUnavailable,
    ReleaseNotServed,
    TransientError,
)
from workers.settings import WorkerSettings

Tensors = dict[str, NDArray[np.generic]]


def refusal(status: str | None, message: str = "as it is") -> InferenceServerException:
    return InferenceServerException(msg=message, status=status)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("StatusCode.UNAVAILABLE", InferenceUnavailable),
        ("StatusCode.RESOURCE_EXHAUSTED", InferenceUnavailable),
        ("StatusCode.CANCELLED", InferenceUnavailable),
        ("StatusCode.DEADLINE_EXCEEDED", InferenceTimeout),
        ("StatusCode.NOT_FOUND", ReleaseNotServed),
        ("StatusCode.INVALID_ARGUMENT", InferenceRefused),
    ],
)
def test_grpc_status_decides_the_error(status: str, expected: type[Exception]) -> None:
    assert type(_inference_error(refusal(status), "geotag_x")) is expected


@pytest.mark.parametrize(
    "message",
    [
        "Request for unknown model: 'geotag_x' is not found",
        "Request for unknown model: 'geotag_x' version 1 is not at ready state",
        "Model 'geotag_x' is not ready",
    ],
)
def test_release_that_is_not_served_is_transient_whatever_the_status(message: str) -> None:
    for status in ("StatusCode.UNKNOWN", "StatusCode.INTERNAL", None):
        assert isinstance(_inference_error(refusal(status, message), "geotag_x"), ReleaseNotServed)


@pytest.mark.parametrize("step", ["segmentation", "translocator", "geodecode"])
def test_refusal_names_the_ensembles_step(step: str) -> None:
    message = f"in ensemble 'geotag_x', Failed to process the request for model '{step}_x': no"
    error = _inference_error(refusal("StatusCode.INVALID_ARGUMENT", message), "geotag_x")
    assert isinstance(error, InferenceRefused)
    assert error.step == step
    assert error.message.startswith(f"{step}: ")


def test_refusal_without_a_step_or_a_message() -> None:
    error = _inference_error(refusal("StatusCode.INVALID_ARGUMENT", ""), "geotag_x")
    assert isinstance(error, InferenceRefused)
    assert error.step is None
    assert error.message


@pytest.mark.parametrize(
    "message",
    [
        "in ensemble 'geotag_x', Failed to process the request(s) for model instance"
        " 'translocator_x_0_0', message: Stub process 'translocator_x_0_0' is not healthy.",
        "in ensemble 'geotag_x', onnx runtime error 2: CUDA failure 2: out of memory",
    ],
)
def test_server_errors_are_transient(message: str) -> None:
    """It is retried and finally recorded. A permanent error would fail a good picture at once."""
    assert isinstance(
        _inference_error(refusal("StatusCode.INTERNAL", message), "geotag_x"), TransientError
    )


def tensors(**changes: NDArray[np.generic]) -> Tensors:
    def tokens(*names: str, size: int) -> NDArray[np.object_]:
        return np.array([name.encode() for name in names] + [b""] * (size - len(names)), object)

    def masses(*values: float, size: int) -> NDArray[np.float32]:
        return np.array([*values, *[0.0] * (size - len(values))], np.float32)

    regions = [tokens(*names, size=64) for names in (["5"], ["5", "7"], ["1"])]
    shares = [masses(*values, size=64) for values in ([0.5], [0.5, 0.25], [0.96875])]
    return {
        "POSITION": np.array([-0.125, 51.5]),
        "CELLS": tokens("47c", "47d", "47dc", size=3),
        "CELL_PROBABILITIES": masses(0.75, 0.5, 0.25, size=3),
        "CONFIDENCE": np.array([0.125, 0.25, 0.5, 0.75, 1.0], np.float32),
        "CANDIDATE_CELLS": tokens("47dc", "47db", size=10),
        "CANDIDATE_PROBABILITIES": masses(0.25, 0.125, size=10),
        "REGION_CELLS": np.stack(regions),
        "REGION_PROBABILITIES": np.stack(shares),
        "SCENE": np.array([0.25, 0.5, 0.125], np.float32),
        "ABSTENTION": np.array([b""], object),
        "RELEASE": np.array([b"digest"], object),
        **changes,
    }


def test_prediction_has_the_values_of_the_tensors() -> None:
    said = prediction_of(tensors())
    assert said.release_digest == "digest"
    assert (said.longitude, said.latitude) == (-0.125, 51.5)
    assert said.coarse == CellProbability("47c", 0.75)
    assert said.middle == CellProbability("47d", 0.5)
    assert said.fine == CellProbability("47dc", 0.25)
    assert said.confidence == {1: 0.125, 25: 0.25, 200: 0.5, 750: 0.75, 2500: 1.0}
    assert said.scene == {"indoor": 0.25, "natural": 0.5, "urban": 0.125}
    assert said.abstention is None


def test_padding_is_dropped() -> None:
    said = prediction_of(tensors())
    assert [cell.token for cell in said.candidates] == ["47dc", "47db"]
    assert {level: [cell.token for cell in cells] for level, cells in said.regions.items()} == {
        50: ["5"],
        80: ["5", "7"],
        95: ["1"],
    }


def test_unknown_confidence_is_none() -> None:
    nan = float("nan")
    given = np.array([nan, nan, 0.5, nan, 0.0], np.float32)
    said = prediction_of(tensors(CONFIDENCE=given))
    assert [said.confidence[radius] for radius in RADII_KM] == [None, None, 0.5, None, 0.0]


def test_abstention_carries_its_reason() -> None:
    said = prediction_of(tensors(ABSTENTION=np.array([b"too_little_evidence"], object)))
    assert said.abstention == "too_little_evidence"


def test_fine_cell_may_lie_in_no_coarser_one() -> None:
    said = prediction_of(tensors(CELLS=np.array([b"", b"", b"47dc"], object)))
    assert (said.coarse, said.middle) == (None, None)
    assert said.fine.token == "47dc"


def locator_at(port: int, timeout: float = 1.0) -> TritonClient:
    settings = WorkerSettings(triton_url=f"127.0.0.1:{port}", triton_timeout=timeout)
    return TritonClient(settings, "x")


PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_address_where_nobody_listens_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    locator = locator_at(port, timeout=60)  # never reached: the connection is refused at once
    for ask in (locator.served, lambda: locator.locate(PIXELS)):
        with pytest.raises(InferenceUnavailable):
            ask()
    assert not locator.ready()
    locator.close()


def test_server_that_never_answers_ends_at_the_deadline(listener: socket.socket) -> None:
    locator = locator_at(listener.getsockname()[1])
    for ask in (locator.served, lambda: locator.locate(PIXELS)):
        with pytest.raises((InferenceTimeout, InferenceUnavailable)):
            ask()
    assert not locator.ready()
    locator.close()
