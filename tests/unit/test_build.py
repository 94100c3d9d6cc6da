"""The model repository: pinned steps, the contract's names, several releases side by side."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from triton_models.build import DECODING, build_repository
from triton_models.release import RELEASES, Release, ReleaseError

UNTRAINED = RELEASES / "untrained"

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
    """The same networks under another name and version."""
    return variant(tmp_path / "second", name="second", version=7)


def variant(directory: Path, **changes: Any) -> Path:
    shutil.copytree(UNTRAINED, directory)
    path = directory / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def config(repository: Path, model: str) -> Any:
    text = (repository / model / "config.pbtxt").read_text()
    parsed = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert parsed.name == model  # or Triton would not load it
    return parsed


def tensors(declared: Any) -> dict[str, tuple[str, list[int]]]:
    kinds = model_config_pb2.DataType
    return {t.name: (kinds.Name(t.data_type), list(t.dims)) for t in declared}


def tree(repository: Path) -> dict[str, tuple[int, int]]:
    """Every file with its inode and time: the same only if nothing was written."""
    return {
        str(path.relative_to(repository)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in repository.rglob("*")
    }


def test_the_ensembles_steps_are_pinned_and_speak_of_the_same_tensors(
    tmp_path: Path, second: Path
) -> None:
    repository = build_repository([UNTRAINED, second], tmp_path / "repository")
    for release in (Release.load(UNTRAINED), Release.load(second)):
        for ensemble in (release.ensemble, release.inspection):
            steps = config(repository, ensemble).ensemble_scheduling.step
            assert [s.model_name for s in steps] == ["segmentation", "translocator", "geodecode"]
            known = {"IMAGE"}
            for step in steps:
                assert step.model_version == release.version
                assert (repository / step.model_name / str(release.version) / "model.py").is_file()
                model = config(repository, step.model_name)
                assert release.version in model.version_policy.specific.versions
                assert set(step.input_map) == {t.name for t in model.input}
                assert set(step.output_map) == {t.name for t in model.output}
                assert set(step.input_map.values()) <= known
                known |= set(step.output_map.values())
            assert {t.name for t in config(repository, ensemble).output} <= known


def test_the_ensemble_keeps_the_wire_contract(tmp_path: Path) -> None:
    release = Release.load(UNTRAINED)
    repository = build_repository([UNTRAINED], tmp_path / "repository")
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


def test_the_workers_ensemble_offers_no_tensor_between_steps(tmp_path: Path) -> None:
    """Triton fails a request that does not ask for such an output ("unexpected deadlock")."""
    repository = build_repository([UNTRAINED], tmp_path / "repository")
    ensemble = config(repository, "geotag_untrained")
    steps = ensemble.ensemble_scheduling.step
    consumed = {name for step in steps for name in step.input_map.values()}
    assert not consumed & {t.name for t in ensemble.output}


@pytest.mark.parametrize("model", ["segmentation", "translocator", "geodecode"])
def test_every_step_batches_and_is_warmed_up(tmp_path: Path, model: str) -> None:
    repository = build_repository([UNTRAINED], tmp_path / "repository", threads=2)
    parsed = config(repository, model)
    assert parsed.max_batch_size == 8
    assert parsed.HasField("dynamic_batching")
    assert [(g.count, g.kind) for g in parsed.instance_group] == [(1, 2)]  # KIND_CPU
    assert set(parsed.model_warmup[0].inputs) == {t.name for t in parsed.input}
    if model != "geodecode":
        assert list(parsed.dynamic_batching.preferred_batch_size) == [4, 8]
        assert parsed.dynamic_batching.max_queue_delay_microseconds > 0
        assert parsed.parameters["threads"].string_value == "2"


def test_no_warm_up_where_versions_differ(tmp_path: Path) -> None:
    """Triton would not load a version that cannot take another's sample."""
    other = variant(tmp_path / "other", name="other", version=2)
    path = other / "release.json"
    values = json.loads(path.read_text())
    values["image_size"] = 320
    for network in ("segmentation", "locator"):
        values[network]["config"]["image_size"] = 320
    path.write_text(json.dumps(values))
    repository = build_repository([UNTRAINED, other], tmp_path / "repository")
    assert not config(repository, "segmentation").model_warmup
    assert not config(repository, "translocator").model_warmup
    assert config(repository, "geodecode").model_warmup
    assert tensors(config(repository, "geotag_other").input)["IMAGE"][1] == [320, 320, 3]


def test_building_again_changes_nothing(tmp_path: Path, second: Path) -> None:
    repository = build_repository([UNTRAINED, second], tmp_path / "repository")
    before = tree(repository)
    assert build_repository([second, UNTRAINED], tmp_path / "repository") == repository
    assert tree(repository) == before
    assert {path.name for path in tmp_path.iterdir()} == {"repository", "second"}


def test_another_digest_another_choice_or_other_threads_build_anew(
    tmp_path: Path, second: Path
) -> None:
    out = tmp_path / "repository"
    build_repository([UNTRAINED, second], out)
    assert (out / "geotag_second").is_dir()
    build_repository([UNTRAINED], out)
    assert not (out / "geotag_second").exists()
    assert not (out / "segmentation" / "7").exists()
    changed = variant(tmp_path / "changed", provenance={"note": "another"})
    build_repository([changed], out)
    digest = (out / "geodecode" / "1" / "digest").read_text()
    assert digest == Release.load(changed).digest != Release.load(UNTRAINED).digest
    build_repository([changed], out, threads=2)
    assert config(out, "segmentation").parameters["threads"].string_value == "2"


def test_clashes_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "repository"
    same_version = variant(tmp_path / "a", name="other")
    same_name = variant(tmp_path / "b", version=2)
    with pytest.raises(ValueError, match="several releases have the version 1"):
        build_repository([UNTRAINED, same_version], out)
    with pytest.raises(ValueError, match="several releases have the name untrained"):
        build_repository([UNTRAINED, same_name], out)
    with pytest.raises(ValueError, match="no release"):
        build_repository([], out)
    with pytest.raises(ValueError, match="cannot build for 'gpu'"):
        build_repository([UNTRAINED], out, target="gpu")  # type: ignore[arg-type]
    assert not out.exists()


def test_a_broken_release_leaves_the_repository_as_it_was(tmp_path: Path, second: Path) -> None:
    repository = build_repository([UNTRAINED], tmp_path / "repository")
    before = tree(repository)
    (second / "segmentation.onnx").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"segmentation\.onnx"):
        build_repository([UNTRAINED, second], tmp_path / "repository")
    assert tree(repository) == before


def test_the_decoder_travels_with_all_that_it_needs(tmp_path: Path) -> None:
    """Triton's environment has numpy, and nothing of ours beside these few modules."""
    repository = build_repository([UNTRAINED], tmp_path / "repository")
    version = repository / "geodecode" / "1"
    code = """
import sys
for name in ("pyarrow", "s2sphere", "torch", "pydantic"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from triton_models import decoding
assert Path(decoding.__file__).parent == Path("triton_models").resolve(), decoding.__file__
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
    assert {path.name for path in (version / "triton_models").glob("*.py")} == {
        path.name for path in DECODING
    }


def test_the_saved_decoder_is_the_releases(tmp_path: Path) -> None:
    repository = build_repository([UNTRAINED], tmp_path / "repository")
    fine = Release.load(UNTRAINED).hierarchy.fine
    with np.load(repository / "geodecode" / "1" / "decoder.npz") as arrays:
        assert arrays["fine_tokens"].tolist() == list(fine.tokens)
        np.testing.assert_array_equal(arrays["longitude"], fine.longitude)
