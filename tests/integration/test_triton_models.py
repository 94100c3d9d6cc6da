"""The release `untrained` in a real Triton answers as its PyTorch modules do."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from deploy import model_control
from tests.stack_helpers import until
from triton_models.networks.translocator import TransLocatorConfig
from triton_models.release import untrained
from triton_models.release.export import LOCATOR_OUTPUTS, PIXELS, TOLERANCE, relative_difference
from triton_models.release.release import RELEASES, Release

pytestmark = pytest.mark.integration

SHARED = Path(__file__).parents[3] / "shared" / "photos" / "landmarks"
NUMBER = 12
ANSWERS = (
    "POSITION", "CELLS", "CELL_PROBABILITIES", "CONFIDENCE", "CANDIDATE_CELLS",
    "CANDIDATE_PROBABILITIES", "REGION_CELLS", "REGION_PROBABILITIES", "SCENE", "ABSTENTION",
    "RELEASE",
)  # fmt: skip
EVERYTHING = ("CLASS_MAP", *LOCATOR_OUTPUTS, *ANSWERS)


@pytest.fixture(scope="module")
def release() -> Release:
    return Release.load(RELEASES / untrained.NAME)


@pytest.fixture(scope="module")
def client(triton_url: str, release: Release) -> Iterator[triton.InferenceServerClient]:
    # A release that was activated since Triton started comes without it.
    if release.inspection not in model_control.ready(triton_url):
        model_control.load(triton_url, release.inspection)
    with triton.InferenceServerClient(triton_url) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(release: Release) -> np.ndarray:
    """Photographs, UINT8 [n, S, S, 3]; smooth random fields if the shared folder is absent."""
    size = release.manifest.image_size
    files = sorted(SHARED.rglob("*.jpg"))
    if files:
        chosen = files[:: len(files) // NUMBER][:NUMBER]
        opened = [Image.open(file).convert("RGB").resize((size, size)) for file in chosen]
    else:
        generator = np.random.default_rng(0)
        fields = [generator.integers(256, size=(n, n, 3), dtype=np.uint8) for n in range(5, 17)]
        opened = [Image.fromarray(f).resize((size, size), Image.Resampling.BICUBIC) for f in fields]
    return np.stack([np.asarray(picture) for picture in opened])


@pytest.fixture(scope="module")
def reference(release: Release, pictures: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Answers of the PyTorch modules for every picture."""
    segmentation, locator = untrained.networks(
        TransLocatorConfig(**release.manifest.locator.config)
    )
    with torch.inference_mode():
        images = torch.from_numpy(pictures)
        maps = segmentation(images)
        logits = locator(images, maps)
    columns = dict(zip(LOCATOR_OUTPUTS, logits, strict=True)) | {"CLASS_MAP": maps}
    return [{k: v[i].numpy() for k, v in columns.items()} for i in range(len(pictures))]


def ask(
    client: triton.InferenceServerClient, model: str, outputs: tuple[str, ...], version: int = 1,
    **inputs: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Send inputs [B, ...]; return the outputs, [B, ...]."""
    tensors = []
    for name, values in inputs.items():
        kind = {"uint8": "UINT8", "float32": "FP32"}[str(values.dtype)]
        tensors.append(triton.InferInput(name, list(values.shape), kind))
        tensors[-1].set_data_from_numpy(np.ascontiguousarray(values))
    wanted = [triton.InferRequestedOutput(name) for name in outputs]
    answer = client.infer(model, tensors, model_version=str(version), outputs=wanted)
    return {name: answer.as_numpy(name) for name in outputs}


def agrees(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    """The check of the exports: class maps the same but for near-ties, logits within 1e-3."""
    return (ours["CLASS_MAP"] != theirs["CLASS_MAP"]).mean() <= PIXELS and all(
        relative_difference(ours[name], theirs[name]) <= TOLERANCE for name in LOCATOR_OUTPUTS
    )


def served(client: triton.InferenceServerClient, release: Release, picture: np.ndarray) -> dict:
    answer = ask(client, release.inspection, EVERYTHING, IMAGE=picture[None])
    return {name: values[0] for name, values in answer.items()}


def test_logits_are_those_of_the_pytorch_modules(
    client: triton.InferenceServerClient,
    release: Release,
    pictures: np.ndarray,
    reference: list[dict[str, np.ndarray]],
) -> None:
    for picture, ours in zip(pictures, reference, strict=True):
        assert agrees(ours, served(client, release, picture))


def test_pytorch_onnx_runtime_and_triton_agree_on_200_photographs(
    client: triton.InferenceServerClient, release: Release, shared: Path
) -> None:
    files = sorted((shared / "photos").rglob("*.jpg"))
    size = release.manifest.image_size
    runtime = {
        name: onnxruntime.InferenceSession(release.file(f"{name}.onnx"))
        for name in ("segmentation", "translocator")
    }
    modules = untrained.networks(TransLocatorConfig(**release.manifest.locator.config))
    for file in files[:: len(files) // 200][:200]:
        with Image.open(file) as opened:
            picture = np.asarray(opened.convert("RGB").resize((size, size)))
        image = picture[None]
        (ids,) = runtime["segmentation"].run(None, {"IMAGE": image})
        scores = runtime["translocator"].run(None, {"IMAGE": image, "CLASS_MAP": ids})
        with torch.inference_mode():
            maps = modules[0](torch.from_numpy(image))
            # A pixel on the border of two classes may get either of them, which changes the logits
            # of these random networks by more than the tolerance. So both get the same map.
            logits = modules[1](torch.from_numpy(image), torch.from_numpy(ids))
        torches = dict(zip(LOCATOR_OUTPUTS, logits, strict=True)) | {"CLASS_MAP": maps}
        columns = dict(zip(LOCATOR_OUTPUTS, scores, strict=True)) | {"CLASS_MAP": ids}
        ours = {name: values[0] for name, values in columns.items()}
        assert agrees({name: tensor[0].numpy() for name, tensor in torches.items()}, ours)
        assert agrees(ours, served(client, release, picture))


def test_control_channels_swapped_is_noticed(
    client: triton.InferenceServerClient,
    release: Release,
    pictures: np.ndarray,
    reference: list[dict[str, np.ndarray]],
) -> None:
    for picture, ours in zip(pictures, reference, strict=True):
        assert not agrees(ours, served(client, release, picture[:, :, ::-1]))


def test_control_another_photograph_is_noticed(
    client: triton.InferenceServerClient,
    release: Release,
    pictures: np.ndarray,
    reference: list[dict[str, np.ndarray]],
) -> None:
    for other, ours in zip(np.roll(pictures, 1, axis=0), reference, strict=True):
        assert not agrees(ours, served(client, release, other))


def test_controls_would_fail_by_the_logits_alone(
    client: triton.InferenceServerClient,
    release: Release,
    pictures: np.ndarray,
    reference: list[dict[str, np.ndarray]],
) -> None:
    """Each head alone separates the controls from the picture by ten times the tolerance."""
    for k, ours in enumerate(reference):
        for control in (pictures[k][:, :, ::-1], pictures[k - 1]):
            theirs = served(client, release, control)
            for name in LOCATOR_OUTPUTS:
                assert relative_difference(ours[name], theirs[name]) > 10 * TOLERANCE


def test_the_answer_is_the_decoding_of_its_own_logits(
    client: triton.InferenceServerClient, release: Release, pictures: np.ndarray
) -> None:
    """Triton runs a copy of the decoder with another NumPy, which must give the same answer."""
    decoder = release.decoder
    for picture in pictures[:3]:
        answer = served(client, release, picture)
        here = decoder.decode(*(answer[name] for name in LOCATOR_OUTPUTS))
        texts = {
            "CELLS": here.cells,
            "CANDIDATE_CELLS": here.candidate_cells,
            "REGION_CELLS": here.region_cells,
            "ABSTENTION": np.array([here.abstention]),
            "RELEASE": np.array([release.digest]),
        }
        for name, values in texts.items():
            assert np.array_equal(answer[name].astype(str), values), name
        numbers = {
            "POSITION": here.position,
            "CELL_PROBABILITIES": here.cell_probabilities,
            "CONFIDENCE": here.confidence,
            "CANDIDATE_PROBABILITIES": here.candidate_probabilities,
            "REGION_PROBABILITIES": here.region_probabilities,
            "SCENE": here.scene,
        }
        for name, values in numbers.items():
            np.testing.assert_allclose(answer[name], values, rtol=1e-5, err_msg=name)
        assert np.isnan(answer["CONFIDENCE"]).all()  # the release is not calibrated


def test_metadata_has_what_workers_read(
    client: triton.InferenceServerClient, release: Release
) -> None:
    config = client.get_model_config(release.ensemble).config
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert parameters == {
        "release": release.name, "digest": release.digest, "fit": "crop", "calibrated": "false",
    }  # fmt: skip
    size = release.manifest.image_size
    assert [list(x.dims) for x in config.input if x.name == "IMAGE"] == [[size, size, 3]]


def test_a_batch_in_one_request_answers_as_single_pictures_do(
    client: triton.InferenceServerClient, release: Release, pictures: np.ndarray
) -> None:
    batch = ask(client, release.inspection, EVERYTHING, IMAGE=pictures[:8])
    for k, picture in enumerate(pictures[:8]):
        single = served(client, release, picture)
        for name in LOCATOR_OUTPUTS:
            assert relative_difference(single[name], batch[name][k]) <= TOLERANCE


@pytest.mark.parametrize("outputs", [ANSWERS, ("POSITION",), ("RELEASE", "CELLS")])
def test_any_subset_of_the_answers_equals_that_of_the_inspection(
    client: triton.InferenceServerClient,
    release: Release,
    pictures: np.ndarray,
    outputs: tuple[str, ...],
) -> None:
    answer = ask(client, release.ensemble, outputs, IMAGE=pictures[:1])
    inspected = served(client, release, pictures[0])
    for name in outputs:
        same = np.array_equal if answer[name].dtype == object else np.allclose
        equal_nan = {} if answer[name].dtype == object else {"equal_nan": True}
        assert same(answer[name][0], inspected[name], **equal_nan), name


def test_the_wrong_size_is_refused_by_the_ensemble(
    client: triton.InferenceServerClient, release: Release, pictures: np.ndarray
) -> None:
    with pytest.raises(InferenceServerException, match=r"unexpected shape for input 'IMAGE'"):
        ask(client, release.ensemble, ANSWERS, IMAGE=pictures[:1, :-1])


def test_refusal_names_the_step_of_the_ensemble(
    client: triton.InferenceServerClient, pictures: np.ndarray
) -> None:
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*segmentation_untrained"):
        ask(client, "segmentation_untrained", ("CLASS_MAP",), IMAGE=pictures[:1, :-1])


def test_one_bad_request_fails_alone(
    client: triton.InferenceServerClient, release: Release, pictures: np.ndarray
) -> None:
    """One request has NaN logits. All are sent at once, so that Triton batches them."""
    answer = ask(client, release.inspection, EVERYTHING, IMAGE=pictures[:8])
    answer["FINE_LOGITS"] = answer["FINE_LOGITS"].copy()
    answer["FINE_LOGITS"][3] = np.nan
    results: dict[int, object] = {}
    for k in range(8):
        tensors = []
        for name in LOCATOR_OUTPUTS:
            values = answer[name][k : k + 1]
            tensors.append(triton.InferInput(name, list(values.shape), "FP32"))
            tensors[-1].set_data_from_numpy(values)
        client.async_infer(
            "geodecode_untrained",
            tensors,
            lambda result, error, k=k: results.update({k: error or result}),
        )
    until(lambda: len(results) == 8)
    errors = {k: str(r) for k, r in results.items() if isinstance(r, InferenceServerException)}
    assert errors.keys() == {3}
    assert "geodecode: " in errors[3]
