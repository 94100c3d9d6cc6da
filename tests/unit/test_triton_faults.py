"""Faults of the service that fail no picture: wrong addresses, exchanged and broken models.

The servers are real gRPC servers on loopback; one of them speaks Triton's protocol by a script.
"""

import http.server
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from workers.chunks.triton_client import TritonClient
from workers.errors import (
    GeotagError,
    InferenceMalformed,
    InferenceRefused,
    InferenceUnavailable,
    PermanentError,
    ReleaseNotServed,
    TransientError,
)
from workers.settings import WorkerSettings

SIZE = 4
PICTURE = np.full((SIZE, SIZE, 3), 7, np.uint8)
NAN = float("nan")
ANSWER: dict[str, tuple[str, Any]] = {
    "POSITION": ("FP64", [-0.125, 51.5]),
    "CELLS": ("BYTES", ["47c", "47d", "47dc"]),
    "CELL_PROBABILITIES": ("FP32", [0.75, 0.5, 0.25]),
    "CONFIDENCE": ("FP32", [NAN] * 5),
    "CANDIDATE_CELLS": ("BYTES", ["47dc"] + [""] * 9),
    "CANDIDATE_PROBABILITIES": ("FP32", [0.25] + [0.0] * 9),
    "REGION_CELLS": ("BYTES", [["5"] + [""] * 63] * 3),
    "REGION_PROBABILITIES": ("FP32", [[1.0] + [0.0] * 63] * 3),
    "SCENE": ("FP32", [0.25, 0.5, 0.25]),
    "ABSTENTION": ("BYTES", [""]),
    "RELEASE": ("BYTES", ["digest"]),
}
Abort = tuple[grpc.StatusCode, str]


class ScriptedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server of Triton's protocol for one model with settable configuration and answers."""

    def __init__(self) -> None:
        self.config = model_config_pb2.ModelConfig(name="geotag_x")
        self.config.input.add(name="IMAGE", dims=[SIZE, SIZE, 3])
        for name, value in {
            "digest": "digest", "release": "x", "calibrated": "true", "fit": "crop"
        }.items():  # fmt: skip
            self.config.parameters[name].string_value = value
        self.answer = dict(ANSWER)
        self.refuse: Callable[[bytes], Abort | None] = lambda _pixels: None
        self.config_fails: Abort | None = None

    def ModelConfig(self, _request: Any, context: grpc.ServicerContext) -> pb.ModelConfigResponse:
        if self.config_fails:
            context.abort(*self.config_fails)
        return pb.ModelConfigResponse(config=self.config)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        refusal = self.refuse(request.raw_input_contents[0])
        if refusal:
            context.abort(*refusal)
        response = pb.ModelInferResponse(model_name="geotag_x")
        for name, (datatype, values) in self.answer.items():
            if datatype == "BYTES":
                array = np.array([values], object)
                raw = serialize_byte_tensor(array).item() if array.size else b""
            else:
                array = np.array([values], triton_to_np_dtype(datatype))
                raw = array.tobytes()
            response.outputs.add(name=name, datatype=datatype, shape=array.shape)
            response.raw_output_contents.append(raw)
        return response


@contextmanager
def grpc_server(servicer: ScriptedTriton | None) -> Iterator[str]:
    """Yield the address of a gRPC server with Triton's services, or with none."""
    server = grpc.server(ThreadPoolExecutor(2))
    if servicer is not None:
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def triton() -> Iterator[ScriptedTriton]:
    servicer = ScriptedTriton()
    with grpc_server(servicer) as url:
        servicer.url = url  # type: ignore[attr-defined]
        yield servicer


def client_at(url: str) -> TritonClient:
    return TritonClient(WorkerSettings(triton_url=url, triton_timeout=10.0), "x")


@pytest.fixture
def client(triton: ScriptedTriton) -> Iterator[TritonClient]:
    client = client_at(triton.url)  # type: ignore[attr-defined]
    yield client
    client.close()


@contextmanager
def http_server() -> Iterator[str]:
    """Yield the address of a web server, in place of Triton's HTTP port."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("server", [lambda: grpc_server(None), http_server], ids=["gRPC", "HTTP"])
def test_wrong_address_is_the_services_fault(server: Callable[[], Any]) -> None:
    with server() as url:
        client = client_at(url)
        for ask in (client.served, lambda: client.locate(PICTURE)):
            with pytest.raises(InferenceUnavailable):
                ask()
        assert not client.ready()
        client.close()


STATUSES = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.name)
def test_no_answer_about_the_model_fails_a_picture(
    triton: ScriptedTriton, client: TritonClient, status: grpc.StatusCode
) -> None:
    triton.config_fails = (status, "no")
    with pytest.raises(TransientError):
        client.served()


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.name)
def test_few_refusals_are_about_the_picture(
    triton: ScriptedTriton, client: TritonClient, status: grpc.StatusCode
) -> None:
    triton.refuse = lambda pixels: (status, "no") if any(pixels) else None
    with pytest.raises(GeotagError) as caught:
        client.locate(PICTURE)
    about_the_picture = status.name in ("INVALID_ARGUMENT", "OUT_OF_RANGE")
    assert isinstance(caught.value, InferenceRefused) == about_the_picture
    assert isinstance(caught.value, PermanentError) == about_the_picture


def test_model_that_refuses_every_picture_fails_none(
    triton: ScriptedTriton, client: TritonClient
) -> None:
    """An example is `unexpected inference output 'REGION_CELLS' for model 'geotag_x'`."""
    triton.refuse = lambda _pixels: (grpc.StatusCode.INVALID_ARGUMENT, "unexpected output")
    with pytest.raises(InferenceUnavailable, match="unexpected output"):
        client.locate(PICTURE)
    assert not client.ready()


def test_exchanged_model_of_another_size_fails_no_picture(
    triton: ScriptedTriton, client: TritonClient
) -> None:
    assert client.served().spec.height == SIZE
    triton.config.input[0].dims[:] = [2 * SIZE, 2 * SIZE, 3]
    size = (2 * SIZE) ** 2 * 3
    triton.refuse = lambda pixels: (
        None if len(pixels) == size else (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")
    )
    with pytest.raises(ReleaseNotServed):
        client.locate(PICTURE)
    assert client.served().spec.height == 2 * SIZE
    assert client.locate(np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8))


def without(name: str) -> Callable[[model_config_pb2.ModelConfig], None]:
    return lambda config: config.parameters.pop(name)


def dims(*values: int) -> Callable[[model_config_pb2.ModelConfig], None]:
    def change(config: model_config_pb2.ModelConfig) -> None:
        config.input[0].dims[:] = values

    return change


def parameter(name: str, value: str) -> Callable[[model_config_pb2.ModelConfig], None]:
    def change(config: model_config_pb2.ModelConfig) -> None:
        config.parameters[name].string_value = value

    return change


BAD_CONFIGS: dict[str, Callable[[model_config_pb2.ModelConfig], Any]] = {
    "no digest": without("digest"),
    "no fit": without("fit"),
    "no release": without("release"),
    "no calibrated": without("calibrated"),
    "unknown fit": parameter("fit", "stretch"),
    "no input": lambda config: config.ClearField("input"),
    "another input": lambda config: setattr(config.input[0], "name", "PIXELS"),
    "no dimensions": dims(),
    "two dimensions": dims(4, 4),
    "dynamic": dims(-1, -1, 3),
    "grey": dims(4, 4, 1),
}


@pytest.mark.parametrize("change", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_model_that_is_no_release_is_the_services_fault(
    triton: ScriptedTriton,
    client: TritonClient,
    change: Callable[[model_config_pb2.ModelConfig], Any],
) -> None:
    change(triton.config)
    with pytest.raises(InferenceMalformed):
        client.served()
    assert not client.ready()


BAD_ANSWERS: dict[str, dict[str, tuple[str, Any] | None]] = {
    **{f"no {name}": {name: None} for name in ANSWER},
    **{f"empty {name}": {name: (datatype, [])} for name, (datatype, _) in ANSWER.items()},
    **{
        f"{name} of another type": {name: ("BYTES" if datatype != "BYTES" else "FP32", [0])}
        for name, (datatype, _) in ANSWER.items()
    },
    "position not a number": {"POSITION": ("FP64", [NAN, 51.5])},
    "position off the earth": {"POSITION": ("FP64", [-0.125, 91.0])},
    "longitude off the earth": {"POSITION": ("FP64", [181.0, 0.0])},
    "no fine cell": {"CELLS": ("BYTES", ["47c", "47d", ""])},
    "cell without a probability": {"CELL_PROBABILITIES": ("FP32", [0.5, 0.5, NAN])},
    "probability above one": {"CELL_PROBABILITIES": ("FP32", [0.5, 0.5, 1.5])},
    "confidence above one": {"CONFIDENCE": ("FP32", [0.5, 0.5, 2.0, 0.5, 0.5])},
    "scene not a number": {"SCENE": ("FP32", [NAN, 0.5, 0.5])},
    "candidate not a number": {"CANDIDATE_PROBABILITIES": ("FP32", [NAN] + [0.0] * 9)},
    "fewer candidates": {"CANDIDATE_PROBABILITIES": ("FP32", [0.25])},
    "no text": {"RELEASE": ("BYTES", [b"\xff\xfe"])},
}


@pytest.mark.parametrize("changes", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_malformed_answer_is_the_services_fault(
    triton: ScriptedTriton, client: TritonClient, changes: dict[str, Any]
) -> None:
    changed = {**ANSWER, **changes}
    triton.answer = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(InferenceMalformed):
        client.locate(PICTURE)
    assert not client.ready()


def test_a_good_answer_is_read(client: TritonClient) -> None:
    assert client.ready()
    assert client.locate(PICTURE).release_digest == "digest"


def test_model_is_known_to_each_thread_while_another_asks_for_it_anew(
    triton: ScriptedTriton, client: TritonClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused picture makes the client ask anew, between any two steps of another thread."""

    class Forgetful(TritonClient):
        known: Any = None

        @property
        def _served(self) -> Any:
            """Return what is known, once: then another thread forgets it."""
            known, self.known = self.known, None
            return known

        @_served.setter
        def _served(self, value: Any) -> None:
            self.known = value

    monkeypatch.setattr(client, "__class__", Forgetful)
    served = client.served()
    client._served = served
    assert client.served() == served
