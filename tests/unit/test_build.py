"""The model repository: pinned steps, contract names, several releases, targets."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from triton_models.release.build import DECODING, STEPS, Target, build, built, built_as, remove
from triton_models.release.release import RELEASES, Release

UNTRAINED = RELEASES / "untrained"
KIND_GPU, KIND_CPU = 1, 2  # model_config.proto, ModelInstanceGroup.Kind

# docs/architecture.md, "The wire contract with Triton": name → type, shape.
ANSWERS = {
    "POSITION": ("TYPE_FP64", [2]),
    "CELLS": ("TYPE_STRING", [3]),
    "CELL_PROBABILITIES": ("TYPE_FP32", [3]),
    "CONFIDENCE": ("TYPE_FP32", [5]),
    "CANDIDATE_CELLS": ("TYPE_STRING", [10]),
    "CANDIDATE_PROBABILITIES": ("TYPE_FP32", [10]),
    "REGION_CELLS": ("TYPE_STRING", [3, 64]),
    "REGION_PROBABILITIES": ("TYPE_FP32", [3, 64]),
    "SCENE": ("TYPE_FP32", [3]),
    "ABSTENTION": ("TYPE_STRING", [1]),
    "RELEASE": ("TYPE_STRING", [1]),
}


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A release with the same networks and another name and version."""
    return variant(tmp_path / "second", name="second", version=7)


def variant(directory: Path, **changes: Any) -> Path:
    shutil.copytree(UNTRAINED, directory)
    path = directory / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def config(repository: Path, model: str) -> Any:
    text = (repository / model / "config.pbtxt").read_text()
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert parsed.name == model  # Triton requires it
    return parsed


def tensors(declared: Any) -> dict[str, tuple[str, list[int]]]:
    kinds = model_config_pb2.DataType
    return {t.name: (kinds.Name(t.data_type), list(t.dims)) for t in declared}


def tree(repository: Path) -> dict[str, tuple[int, int]]:
    """Return each file with its inode and time, which change if it is written."""
    return {
        str(path.relative_to(repository)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in repository.rglob("*")
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository with the release `untrained`, for the CPU."""
    build(Release.load(UNTRAINED), tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize("target", ["cpu", "gpu", "tensorrt"])
def test_the_ensembles_steps_are_pinned_and_their_tensors_match(
    tmp_path: Path, second: Path, target: Target
) -> None:
    repository = tmp_path / "repository"
    for release in (Release.load(UNTRAINED), Release.load(second)):
        assert build(release, repository, target=target)
        for ensemble in (release.ensemble, release.inspection):
            steps = config(repository, ensemble).ensemble_scheduling.step
            assert [s.model_name for s in steps] == [f"{step}_{release.name}" for step in STEPS]
            known = tensors(config(repository, ensemble).input)
            for step in steps:
                assert step.model_version == release.version
                assert (repository / step.model_name / str(release.version)).is_dir()
                model = config(repository, step.model_name)
                assert list(model.version_policy.specific.versions) == [release.version]
                assert all(
                    known[step.input_map[t]] == kind for t, kind in tensors(model.input).items()
                )
                known |= {step.output_map[t]: kind for t, kind in tensors(model.output).items()}
            assert tensors(config(repository, ensemble).output).items() <= known.items()


def test_the_ensemble_keeps_the_wire_contract(repository: Path) -> None:
    release = Release.load(UNTRAINED)
    ensemble = config(repository, release.ensemble)
    assert tensors(ensemble.input) == {"IMAGE": ("TYPE_UINT8", [256, 256, 3])}
    assert tensors(ensemble.output) == ANSWERS
    assert {key: p.string_value for key, p in ensemble.parameters.items()} == {
        "release": "untrained", "digest": release.digest, "fit": "crop", "calibrated": "false",
    }  # fmt: skip
    between = {
        "CLASS_MAP": ("TYPE_UINT8", [256, 256]),
        "SCENE_LOGITS": ("TYPE_FP32", [1, 3]),
    } | {
        f"{partition.name.upper()}_LOGITS": ("TYPE_FP32", [1, len(partition)])
        for partition in release.hierarchy.partitions
    }
    assert tensors(config(repository, release.inspection).output) == ANSWERS | between


def test_the_workers_ensemble_offers_no_tensor_between_steps(repository: Path) -> None:
    """If it did, Triton would fail requests that leave that output out ("unexpected deadlock")."""
    ensemble = config(repository, "geotag_untrained")
    steps = ensemble.ensemble_scheduling.step
    consumed = {name for step in steps for name in step.input_map.values()}
    assert not consumed & {t.name for t in ensemble.output}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("target", ["cpu", "gpu", "tensorrt"])
def test_every_step_batches_and_is_warmed_up(tmp_path: Path, step: str, target: Target) -> None:
    build(Release.load(UNTRAINED), tmp_path / "repository", target=target, threads=2)
    parsed = config(tmp_path / "repository", f"{step}_untrained")
    assert parsed.max_batch_size == 8
    assert parsed.HasField("dynamic_batching")
    sample = parsed.model_warmup[0].inputs
    assert {name: list(t.dims) for name, t in sample.items()} == {
        t.name: list(t.dims) for t in parsed.input
    }
    if step != "geodecode":
        assert list(parsed.dynamic_batching.preferred_batch_size) == [4, 8]
        assert parsed.dynamic_batching.max_queue_delay_microseconds > 0


@pytest.mark.parametrize("step", ["segmentation", "translocator"])
def test_the_networks_of_a_cpu_run_in_python_on_the_given_threads(
    tmp_path: Path, step: str
) -> None:
    build(Release.load(UNTRAINED), tmp_path / "repository", threads=2)
    parsed = config(tmp_path / "repository", f"{step}_untrained")
    assert parsed.backend == "python"
    assert [(g.count, g.kind) for g in parsed.instance_group] == [(1, KIND_CPU)]
    assert parsed.parameters["threads"].string_value == "2"
    version = tmp_path / "repository" / f"{step}_untrained" / "1"
    assert {path.name for path in version.iterdir()} == {"model.py", "model.onnx"}


@pytest.mark.parametrize("step", ["segmentation", "translocator"])
@pytest.mark.parametrize("target", ["gpu", "tensorrt"])
def test_the_networks_of_a_gpu_run_in_the_onnxruntime_backend(
    tmp_path: Path, step: str, target: Target
) -> None:
    """That backend loads a network only if the configuration has exactly its shapes."""
    build(Release.load(UNTRAINED), tmp_path / "repository", target=target)
    parsed = config(tmp_path / "repository", f"{step}_untrained")
    assert parsed.backend == "onnxruntime"
    assert [(g.count, g.kind) for g in parsed.instance_group] == [(1, KIND_GPU)]
    version = tmp_path / "repository" / f"{step}_untrained" / "1"
    assert {path.name for path in version.iterdir()} == {"model.onnx"}
    accelerators = parsed.optimization.execution_accelerators.gpu_execution_accelerator
    assert [a.name for a in accelerators] == (["tensorrt"] if target == "tensorrt" else [])
    session = onnxruntime.InferenceSession(version / "model.onnx")
    for ours, theirs in (
        (parsed.input, session.get_inputs()),
        (parsed.output, session.get_outputs()),
    ):
        assert {t.name: ["batch", *t.dims] for t in ours} == {t.name: t.shape for t in theirs}


def test_releases_share_no_tensorrt_engines(tmp_path: Path, second: Path) -> None:
    """Networks may differ in weights only, which the names of the engines do not show."""
    caches = {}
    for release in (Release.load(UNTRAINED), Release.load(second)):
        build(release, tmp_path / "repository", target="tensorrt")
        parsed = config(tmp_path / "repository", f"translocator_{release.name}")
        (tensorrt,) = parsed.optimization.execution_accelerators.gpu_execution_accelerator
        caches[release.digest] = tensorrt.parameters["trt_engine_cache_path"]
    assert caches == {digest: f"/tmp/tensorrt-{digest}" for digest in caches}
    assert len(caches) == 2


def test_targets_differ_only_in_how_the_networks_run(tmp_path: Path) -> None:
    release = Release.load(UNTRAINED)
    build(release, tmp_path / "cpu")
    build(release, tmp_path / "gpu", target="gpu")
    models = {path.name for path in (tmp_path / "cpu").iterdir()}
    assert models == {path.name for path in (tmp_path / "gpu").iterdir()}
    for model in models:
        cpu, gpu = config(tmp_path / "cpu", model), config(tmp_path / "gpu", model)
        for field in ("backend", "instance_group", "parameters"):
            if not model.startswith(("geotag", "inspect", "geodecode")):
                cpu.ClearField(field)
                gpu.ClearField(field)
        assert cpu == gpu


def test_building_again_changes_nothing(repository: Path, tmp_path: Path) -> None:
    before = tree(repository)
    assert not build(Release.load(UNTRAINED), repository)
    assert tree(repository) == before
    assert {path.name for path in tmp_path.iterdir()} == {"repository", ".repository.lock"}


def test_concurrent_builds_take_turns(tmp_path: Path) -> None:
    release = Release.load(UNTRAINED)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: build(release, tmp_path / "repository"), range(4)))

    assert sorted(done) == [False, False, False, True]
    assert built(tmp_path / "repository") == ["untrained"]


def test_another_release_leaves_the_others_alone(repository: Path, second: Path) -> None:
    before = tree(repository)
    assert build(Release.load(second), repository)
    assert built(repository) == ["second", "untrained"]
    after = tree(repository)
    assert {path: after[path] for path in before} == before
    remove("second", repository)
    assert built(repository) == ["untrained"]
    assert tree(repository) == before


def test_another_digest_target_or_other_threads_build_anew(
    repository: Path, tmp_path: Path
) -> None:
    stamp = built_as("untrained", repository)
    changed = Release.load(variant(tmp_path / "changed", provenance={"note": "another"}))
    assert build(changed, repository)
    assert changed.digest != Release.load(UNTRAINED).digest
    assert (repository / "geodecode_untrained/1/digest").read_text() == changed.digest
    assert built_as("untrained", repository) != stamp
    assert build(changed, repository, threads=2)
    assert config(repository, "segmentation_untrained").parameters["threads"].string_value == "2"
    assert build(changed, repository, target="gpu")
    assert not (repository / "segmentation_untrained/1/model.py").exists()
    left = {"repository", ".repository.lock", "changed"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_target_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot build for 'tpu'"):
        build(Release.load(UNTRAINED), tmp_path / "repository", target="tpu")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_an_interrupted_build_is_repeated(repository: Path) -> None:
    """The ensemble with the fingerprint is written last."""
    (repository / "geotag_untrained" / "fingerprint").unlink()
    assert build(Release.load(UNTRAINED), repository)
    assert built(repository) == ["untrained"]


def test_the_decoder_is_copied_with_its_dependencies(repository: Path) -> None:
    """Triton's environment has NumPy and, of our code, only the copied modules."""
    version = repository / "geodecode_untrained" / "1"
    code = """
import sys
for name in ("pyarrow", "s2sphere", "torch", "pydantic"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from triton_models.answer import decoding
assert Path(decoding.__file__).parent == Path("triton_models/answer").resolve()
decoder = decoding.Decoder.load(Path("decoder.npz"))
heads = (decoder.coarse_tokens, decoder.middle_tokens, decoder.fine_tokens, "ABC")
logits = [np.zeros((1, len(head)), np.float32) for head in heads]
logits[2][0, 5] = 20
print(decoder.decode(*logits).cells[2])
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=version,
        env=os.environ | {"PYTHONPATH": str(version)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == Release.load(UNTRAINED).hierarchy.fine.tokens[5]
    package = version / "triton_models"
    assert {str(path.relative_to(package)) for path in package.rglob("*.py")} == set(DECODING)


def test_the_saved_decoder_is_the_releases(repository: Path) -> None:
    fine = Release.load(UNTRAINED).hierarchy.fine
    with np.load(repository / "geodecode_untrained" / "1" / "decoder.npz") as arrays:
        assert arrays["fine_tokens"].tolist() == list(fine.tokens)
        np.testing.assert_array_equal(arrays["longitude"], fine.longitude)
