"""Asking Triton where a picture was taken: one image a request, many in flight, typed errors.

The wire contract (tensor names, shapes, parameters) is in docs/architecture.md. Triton does the
batching; a batch of our own would fail whole when one picture in it is bad.
"""

import re
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from db.schema import RADII_KM, REGION_LEVELS, SCENES
from workers.errors import (
    GeotagError,
    InferenceRefused,
    InferenceTimeout,
    InferenceUnavailable,
    ReleaseNotServed,
)
from workers.photo.reading import InputSpec
from workers.settings import WorkerSettings

_OUTPUTS = (
    "POSITION",
    "CELLS",
    "CELL_PROBABILITIES",
    "CONFIDENCE",
    "CANDIDATE_CELLS",
    "CANDIDATE_PROBABILITIES",
    "REGION_CELLS",
    "REGION_PROBABILITIES",
    "SCENE",
    "ABSTENTION",
    "RELEASE",
)

# The gRPC statuses, as tritonclient spells them, by which Triton blames the request. Whatever else
# it answers (a backend process that died is INTERNAL) is its own trouble, and may pass.
_REFUSED = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "UNIMPLEMENTED"}


@dataclass(frozen=True)
class CellProbability:
    """An S2 cell by its token, and its probability."""

    token: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a release says of one picture.

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


@dataclass(frozen=True)
class ServedRelease:
    """What the worker must know of a release before it can ask."""

    name: str
    digest: str
    calibrated: bool
    spec: InputSpec


class TritonClient:
    """Triton's client for one release; threads may share it. Make it after a fork, never before.

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
        """Whether Triton serves the release, by a blank picture.

        Triton calls a model ready whose backend process has died.
        """
        try:
            spec = self.served().spec
            self.locate(np.zeros((spec.height, spec.width, 3), np.uint8))
        except GeotagError:
            return False
        return True

    def served(self) -> ServedRelease:
        """The release as Triton serves it, asked once.

        Raises:
            InferenceUnavailable, InferenceTimeout, ReleaseNotServed: see workers/errors.py.
        """
        if self._served is None:
            try:
                config = self._client.get_model_config(
                    self._model, client_timeout=self._timeout
                ).config
            except InferenceServerException as error:
                raise _typed(error, self._model) from error
            (image,) = (tensor for tensor in config.input if tensor.name == "IMAGE")
            height, width, _channels = image.dims
            given = {name: value.string_value for name, value in config.parameters.items()}
            if self._digest not in (None, given["digest"]):
                raise ReleaseNotServed(
                    f"Triton serves {self._model} with digest {given['digest'][:12]}; the ledger's"
                    f" is {str(self._digest)[:12]}"
                )
            self._served = ServedRelease(
                name=given["release"],
                digest=given["digest"],
                calibrated=given["calibrated"] == "true",
                spec=InputSpec(height=height, width=width, fit=given["fit"]),
            )
        return self._served

    def locate(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Ask for one picture.

        Args:
            pixels: uint8 [height, width, 3], sRGB, exactly of the release's input size.

        Raises:
            ReleaseNotServed: the answer is another release's.
            InferenceRefused: Triton refused the picture; the error names the ensemble's step.
            InferenceUnavailable, InferenceTimeout: trying later may work.
        """
        image = triton.InferInput("IMAGE", [1, *pixels.shape], "UINT8")
        image.set_data_from_numpy(pixels[None])
        try:
            answer = self._client.infer(
                self._model,
                [image],
                outputs=[triton.InferRequestedOutput(name) for name in _OUTPUTS],
                client_timeout=self._timeout,
            )
        except InferenceServerException as error:
            raise _typed(error, self._model) from error
        said = _prediction({name: answer.as_numpy(name)[0] for name in _OUTPUTS})
        if self._digest not in (None, said.release_digest):
            self._served = None  # it changed under us: ask anew what is served
            raise ReleaseNotServed(
                f"{self._model} answers as {said.release_digest[:12]}; the ledger's digest is"
                f" {str(self._digest)[:12]}"
            )
        return said

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def _typed(error: InferenceServerException, model: str) -> GeotagError:
    """Our error for Triton's: by its gRPC status, with the ensemble's failing step by name."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = error.message() or "no message"
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeout(f"Triton did not answer for {model} in time")
    if status == "NOT_FOUND" or "is not ready" in message or "unknown model" in message:
        return ReleaseNotServed(f"Triton does not serve {model}: {message}")
    if status not in _REFUSED:
        return InferenceUnavailable(f"Triton cannot answer: {message}")
    # A step is a model of the release's own: translocator_landmarks, with instances by number.
    step = re.search(r"\b(segmentation|translocator|geodecode)(?=_|\b)", message)
    return InferenceRefused(message, step.group(1) if step else None)


def _prediction(tensors: dict[str, NDArray[np.generic]]) -> Prediction:
    def cells(
        tokens: NDArray[np.generic], masses: NDArray[np.generic]
    ) -> tuple[CellProbability, ...]:
        return tuple(
            CellProbability(token.decode(), float(mass))
            for token, mass in zip(tokens.tolist(), masses.tolist(), strict=True)
            if token
        )

    coarse, middle, fine = (
        CellProbability(token.decode(), mass)
        for token, mass in zip(
            tensors["CELLS"].tolist(), tensors["CELL_PROBABILITIES"].tolist(), strict=True
        )
    )
    longitude, latitude = tensors["POSITION"].tolist()
    confidence = [None if np.isnan(value) else value for value in tensors["CONFIDENCE"].tolist()]
    return Prediction(
        release_digest=tensors["RELEASE"][0].decode(),
        longitude=longitude,
        latitude=latitude,
        coarse=coarse if coarse.token else None,
        middle=middle if middle.token else None,
        fine=fine,
        confidence=dict(zip(RADII_KM, confidence, strict=True)),
        candidates=cells(tensors["CANDIDATE_CELLS"], tensors["CANDIDATE_PROBABILITIES"]),
        regions={
            level: cells(tensors["REGION_CELLS"][i], tensors["REGION_PROBABILITIES"][i])
            for i, level in enumerate(REGION_LEVELS)
        },
        scene=dict(zip(SCENES, tensors["SCENE"].tolist(), strict=True)),
        abstention=tensors["ABSTENTION"][0].decode() or None,
    )
