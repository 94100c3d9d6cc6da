"""Triton client for one release: one picture a request, many requests in flight, typed errors.

Triton does the batching: a batch made here would fail whole when one picture in it is bad.

An error is the picture's fault only where Triton blames the request for it and accepts a blank
picture. All others are the service's: a wrong address, another model under the release's name, an
answer that breaks the wire contract.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from workers.chunks.prediction import OUTPUTS, Prediction, read_answer
from workers.errors import (
    GeotagError,
    InferenceMalformed,
    InferenceRefused,
    InferenceTimeout,
    InferenceUnavailable,
    ReleaseNotServed,
    TransientError,
)
from workers.photo.reading import InputSpec
from workers.settings import WorkerSettings

# gRPC statuses, as tritonclient spells them, by which Triton may blame the picture of a request. A
# backend process that died is INTERNAL.
_REFUSED = {"INVALID_ARGUMENT", "OUT_OF_RANGE"}


@dataclass(frozen=True)
class ServedRelease:
    """A release as Triton's model configuration describes it."""

    name: str
    digest: str
    calibrated: bool
    spec: InputSpec


class TritonClient:
    """Client for one release; threads may share it. Make it after a fork, never before.

    Args:
        settings: Triton's address and the deadline of one inference.
        release: the release's name; its ensemble is `geotag_<name>`.
        digest: the release's digest; None for whichever is served.
    """

    def __init__(self, settings: WorkerSettings, release: str, digest: str | None = None) -> None:
        self._client = triton.InferenceServerClient(settings.triton_url)
        self._timeout = settings.triton_timeout
        self._digest = digest
        self._model = f"geotag_{release}"
        self._served: ServedRelease | None = None

    def ready(self) -> bool:
        """Return whether Triton serves the release, by asking for a blank picture.

        Triton calls a model ready whose backend process has died.
        """
        try:
            self.locate(_blank(self.served().spec))
        except GeotagError:
            return False
        return True

    def served(self) -> ServedRelease:
        """Return the release as Triton serves it; Triton is asked once.

        Raises:
            InferenceUnavailable, InferenceTimeout: Triton cannot be asked.
            ReleaseNotServed: Triton does not know the model, or serves another build of it.
            InferenceMalformed: the model is not a release's.
        """
        served = self._served  # read once: another thread may reset it
        if served is None:
            try:
                config = self._client.get_model_config(
                    self._model, client_timeout=self._timeout
                ).config
            except InferenceServerException as error:
                raise _service_error(error, self._model) from error
            served = _served_release(config, self._model)
            if self._digest not in (None, served.digest):
                raise ReleaseNotServed(
                    f"Triton serves {self._model} with digest {served.digest[:12]}; the ledger's"
                    f" is {str(self._digest)[:12]}"
                )
            self._served = served
        return served

    def locate(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Ask for one picture.

        Args:
            pixels: uint8 [height, width, 3], sRGB, exactly of the release's input size.

        Raises:
            InferenceRefused: Triton refuses this picture and accepts a blank one; the error names
                the ensemble's step.
            ReleaseNotServed: the answer is another release's, or the model was exchanged.
            InferenceUnavailable, InferenceTimeout, InferenceMalformed: trying later may work.
        """
        try:
            prediction = self._infer(pixels)
        except InferenceRefused as refused:
            self._check_that_a_blank_is_accepted(pixels.shape, refused)
            raise
        if self._digest not in (None, prediction.release_digest):
            self._served = None  # the release was replaced: read the configuration again
            raise ReleaseNotServed(
                f"{self._model} answers as {prediction.release_digest[:12]}; the ledger's digest is"
                f" {str(self._digest)[:12]}"
            )
        return prediction

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _infer(self, pixels: NDArray[np.uint8]) -> Prediction:
        image = triton.InferInput("IMAGE", [1, *pixels.shape], "UINT8")
        image.set_data_from_numpy(pixels[None])
        try:
            answer = self._client.infer(
                self._model,
                [image],
                outputs=[triton.InferRequestedOutput(name) for name in OUTPUTS],
                client_timeout=self._timeout,
            )
        except InferenceServerException as error:
            raise _inference_error(error, self._model) from error
        return read_answer(answer)

    def _check_that_a_blank_is_accepted(
        self, shape: tuple[int, ...], refused: InferenceRefused
    ) -> None:
        """Raise a transient error if the refusal is not about the picture."""
        self._served = None
        spec = self.served().spec
        if shape != (spec.height, spec.width, 3):
            raise ReleaseNotServed(
                f"{self._model} was exchanged: its input is now {spec.width} x {spec.height} px"
            )
        try:
            self._infer(_blank(spec))
        except InferenceRefused:
            raise InferenceUnavailable(
                f"{self._model} refuses every picture: {refused.message}"
            ) from refused


def _blank(spec: InputSpec) -> NDArray[np.uint8]:
    return np.zeros((spec.height, spec.width, 3), np.uint8)


def _served_release(config: Any, model: str) -> ServedRelease:
    """Read a model's configuration (`ModelConfig` of Triton's gRPC protocol)."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in config.input}
    shape = dims.get("IMAGE", ())
    if len(shape) != 3 or min(shape) <= 0 or shape[2] != 3:
        raise InferenceMalformed(f"{model} has no input IMAGE [height, width, 3] but {dims}")
    height, width, _channels = shape
    given = {name: value.string_value for name, value in config.parameters.items()}
    missing = {"release", "digest", "calibrated", "fit"} - {key for key in given if given[key]}
    if missing:
        raise InferenceMalformed(f"{model} has no parameter {', '.join(sorted(missing))}")
    fit = given["fit"]
    if fit not in ("crop", "squash"):
        raise InferenceMalformed(f"{model} has the parameter fit={fit}, not crop or squash")
    return ServedRelease(
        name=given["release"],
        digest=given["digest"],
        calibrated=given["calibrated"] == "true",
        spec=InputSpec(height=height, width=width, fit=fit),
    )


def _inference_error(error: InferenceServerException, model: str) -> GeotagError:
    """Return our error for Triton's answer to a picture, with the ensemble's failing step."""
    service = _service_error(error, model)
    if _status(error) not in _REFUSED or isinstance(service, ReleaseNotServed):
        return service
    message = error.message() or "no message"
    # A step is a model of the release's own: translocator_landmarks, with instances by number.
    step = re.search(r"\b(segmentation|translocator|geodecode)(?=_|\b)", message)
    return InferenceRefused(message, step.group(1) if step else None)


def _service_error(error: InferenceServerException, model: str) -> TransientError:
    """Return our error for Triton's answer to a question that is not about a picture."""
    status, message = _status(error), error.message() or "no message"
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeout(f"Triton did not answer for {model} in time")
    if status == "NOT_FOUND" or "is not ready" in message or "unknown model" in message:
        return ReleaseNotServed(f"Triton does not serve {model}: {message}")
    if status == "UNIMPLEMENTED":
        return InferenceUnavailable(
            f"GEOTAG_TRITON_URL is not the address of Triton's gRPC port: {message}"
        )
    return InferenceUnavailable(f"Triton cannot answer: {message}")


def _status(error: InferenceServerException) -> str:
    return str(error.status() or "").removeprefix("StatusCode.")
