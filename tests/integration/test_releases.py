"""Register releases, activate them under load and roll back; no answer mixes two releases."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sqlalchemy.exc import SQLAlchemyError

from db.reads import run_progress
from db.releases import activations, active_release, registered_releases
from deploy import model_control
from deploy.errors import ModelNotLoaded
from deploy.local import stack as local_stack
from geotag.context import Context
from geotag.machine.stack import up
from geotag.releases import lifecycle
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import distinct_pictures, results, upload
from triton_models.release.build import build
from triton_models.release.release import RELEASES, Release, ReleaseError, sha256_of, write_release
from workers.chunks.triton_client import Prediction, TritonClient
from workers.errors import GeotagError, ReleaseNotServed

NAME, SECOND, THIRD = "untrained", "second", "third"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """`untrained` with shuffled locator weights, which give other answers."""
    ours = Release.load(RELEASES / NAME)
    network = onnx.load(ours.file("translocator.onnx"))
    generator = np.random.default_rng(0)
    for weights in network.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1000:
            shuffled = generator.permutation(values.ravel()).reshape(values.shape)
            weights.CopyFrom(numpy_helper.from_array(shuffled, weights.name))
    directory = tmp_path_factory.mktemp("second")
    onnx.save(network, directory / "shuffled.onnx")
    return write_release(
        directory / SECOND,
        name=SECOND,
        version=2,
        fit="squash",
        scenes=ours.manifest.scenes,
        segmentation=(ours.file("segmentation.onnx"), ours.manifest.segmentation.config),
        locator=(directory / "shuffled.onnx", ours.manifest.locator.config),
        locator_reads=ours.manifest.locator_reads,
        cells=ours,
        calibration=None,
        provenance={"weights": "those of `untrained`, shuffled"},
        model_card="# second",
    )


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release with the networks of `untrained` and another name."""
    return renamed(RELEASES / NAME, tmp_path_factory.mktemp("third") / THIRD)


@pytest.fixture
def context(running: Context, second: Release, third: Release) -> Iterator[Context]:
    """A stack that knows three releases, of which `untrained` is active."""
    for release in (second, third):
        lifecycle.register(running, release.directory)
    yield running
    lifecycle.activate(running, NAME)


def renamed(directory: Path, copy: Path) -> Release:
    shutil.copytree(directory, copy)
    manifest = json.loads((copy / "release.json").read_text()) | {"name": copy.name}
    (copy / "release.json").write_text(json.dumps(manifest))
    return Release.load(copy)


def served(context: Context) -> set[str]:
    ready = model_control.ready(context.settings.worker.triton_url)
    return {name.removeprefix("geotag_") for name in ready if name.startswith("geotag_")}


def pictures() -> np.ndarray:
    """Random fields of several scales, UINT8 [6, 256, 256, 3], which differ strongly."""
    generator = np.random.default_rng(0)
    fields = [generator.integers(256, size=(n, n, 3), dtype=np.uint8) for n in (1, 2, 4, 8, 16, 32)]
    return np.stack([f.repeat(256 // len(f), 0).repeat(256 // len(f), 1) for f in fields])


def figures(said: Prediction) -> np.ndarray:
    """Return the cell and scene probabilities of an answer as one vector."""
    candidates = [cell.probability for cell in said.candidates]
    return np.array([said.fine.probability, *candidates, *said.scene.values()])


def test_commands(
    context: Context, geotag: Geotag, bucket: str, second: Release, tmp_path: Path
) -> None:
    """List, activate, run and roll back; each row names the release that answered."""
    upload(context, bucket, distinct_pictures(good_files()["plain.jpg"], 2))
    assert geotag("run", f"s3://{bucket}/").returncode == 0
    done = geotag("releases", "activate", SECOND)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"second {second.digest[:12]} is active" in done.stdout
    assert "untrained was before" in done.stdout
    upload(context, bucket, distinct_pictures(good_files()["plain.jpg"], 3))
    assert geotag("run", f"s3://{bucket}/").returncode == 0
    rows = results(context, bucket)
    assert {row.release for row in rows.values()} == {SECOND}
    first = geotag("results", f"s3://{bucket}/", "--release", "untrained", "-f", "json")
    assert {row["state"] for row in json.loads(first.stdout)} == {"geotagged", "pending"}
    listed = geotag("releases", "list").stdout
    assert "registered, served, active" in next(x for x in listed.splitlines() if SECOND in x)
    assert geotag("releases", "rollback").returncode == 0
    assert active_release(context.engine) == (
        "untrained",
        Release.load(RELEASES / "untrained").digest,
    )
    newest, before = activations(context.engine)[:2]
    assert (newest.name, before.name) == ("untrained", SECOND)
    assert "@" in newest.by
    assert SECOND in served(context)  # so that a rollback can be immediate
    refused = geotag("releases", "activate", "nosuch")
    assert refused.returncode == 2
    assert "no release nosuch is registered" in refused.stderr
    out = tmp_path / "models"
    assert geotag("releases", "build", SECOND, "--target", "gpu", "--out", str(out)).returncode == 0
    assert 'backend: "onnxruntime"' in (out / "translocator_second" / "config.pbtxt").read_text()


def test_no_answer_mixes_two_releases_and_none_is_missing(
    context: Context, second: Release
) -> None:
    """Clients ask for the active release without a pause, while activations change it."""
    digests = {release.name: release.digest for release in registered_releases(context.engine)}
    asked = pictures()
    stored: dict[str, list[np.ndarray]] = {}
    for name in (NAME, SECOND, THIRD):
        lifecycle.activate(context, name)
        with closing(TritonClient(context.settings.worker, name, digests[name])) as locator:
            stored[name] = [figures(locator.locate(picture)) for picture in asked]
    for ours, theirs in zip(stored[SECOND], stored[THIRD], strict=True):
        assert not np.allclose(ours, theirs, rtol=0.02)  # or a mixture might go unnoticed
    lifecycle.activate(context, NAME)

    answers: list[tuple[str, int, Prediction]] = []
    faults: list[Exception] = []
    stop = threading.Event()

    def ask(client: int) -> None:
        locators: dict[str, TritonClient] = {}
        turn = client
        while not stop.is_set():
            turn = (turn + 1) % len(asked)
            try:
                name, digest = active_release(context.engine) or ("", "")
                locator = locators.get(name)
                if locator is None:
                    locator = locators[name] = TritonClient(context.settings.worker, name, digest)
                answers.append((name, turn, locator.locate(asked[turn])))
            except (GeotagError, SQLAlchemyError) as error:
                faults.append(error)
        for locator in locators.values():
            locator.close()

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(4)]
    for client in clients:
        client.start()
    try:
        for name in (SECOND, THIRD, NAME, SECOND, NAME, SECOND, THIRD):
            before = len(answers)
            lifecycle.activate(context, name)
            while len(answers) < before + 20 and not faults:
                stop.wait(0.05)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not faults
    assert {name for name, _turn, _said in answers} == {NAME, SECOND, THIRD}
    for name, turn, said in answers:
        assert said.release_digest == digests[name]
        np.testing.assert_allclose(figures(said), stored[name][turn], rtol=1e-3, atol=1e-6)


def test_a_run_keeps_its_release_through_an_activation(
    context: Context, geotag: Geotag, bucket: str
) -> None:
    upload(context, bucket, distinct_pictures(good_files()["plain.jpg"], 5))
    local_stack.stop_service(context.settings.stack, "worker-backfill")
    try:
        assert geotag("run", f"s3://{bucket}/", "--no-wait").returncode == 0
        lifecycle.activate(context, SECOND)
        lifecycle.activate(context, THIRD)  # untrained is neither active nor previous
        assert served(context) >= {NAME, SECOND, THIRD}
    finally:
        local_stack.start_service(context.settings.stack, "worker-backfill")
    run = next(r for r in run_progress(context.engine, None) if bucket in r.source)
    assert geotag("status", "--watch", "--run", str(run.id)).returncode == 0
    rows = results(context, bucket)
    assert {row.release for row in rows.values()} == {NAME}
    assert len(rows) == 5
    lifecycle.activate(context, SECOND)
    assert NAME not in served(context)  # no run needs it any more


def test_a_release_that_triton_cannot_load_is_not_activated(
    context: Context, geotag: Geotag, second: Release, tmp_path: Path
) -> None:
    """The release looks complete. Only Triton notices that its network is broken."""
    broken = Path(shutil.copytree(second.directory, tmp_path / "broken"))
    (broken / "translocator.onnx").write_bytes(b"no network")
    manifest = json.loads((broken / "release.json").read_text()) | {"name": "broken"}
    manifest["locator"]["sha256"] = sha256_of(broken / "translocator.onnx")
    (broken / "release.json").write_text(json.dumps(manifest))
    assert geotag("releases", "register", str(broken)).returncode == 0
    refused = geotag("releases", "activate", "broken")
    assert refused.returncode == 4
    assert "Triton does not load geotag_broken" in refused.stderr
    active = active_release(context.engine)
    assert active is not None
    assert active[0] == NAME
    assert NAME in served(context)


def test_triton_with_another_release_of_that_name_is_refused(
    context: Context, second: Release, tmp_path: Path
) -> None:
    """We do not repair the model repository of an existing server."""
    impostor = renamed(RELEASES / NAME, tmp_path / SECOND)
    repository = lifecycle.repository(context.settings)
    build(impostor, repository)
    url = context.settings.worker.triton_url
    model_control.load(url, second.ensemble)
    stack = context.settings.stack.model_copy(update={"triton_url": url})
    elsewhere = Context(replace(context.settings, stack=stack))
    with pytest.raises(ReleaseNotServed, match=f"digest {impostor.digest[:12]}"):
        lifecycle.activate(elsewhere, SECOND)
    assert active_release(context.engine) != (SECOND, second.digest)
    lifecycle.activate(context, SECOND)  # our own repository is repaired
    assert (active_release(context.engine) or ("",))[0] == SECOND


def test_up_keeps_the_active_release(context: Context) -> None:
    lifecycle.activate(context, SECOND)
    said: list[str] = []
    up(context.settings, said.append)
    assert (active_release(context.engine) or ("",))[0] == SECOND
    assert any("the active release is second" in line for line in said)


def test_the_name_of_a_shipped_release_is_reserved(context: Context, tmp_path: Path) -> None:
    other = Path(shutil.copytree(RELEASES / NAME, tmp_path / "other"))
    manifest = json.loads((other / "release.json").read_text()) | {"provenance": {}}
    (other / "release.json").write_text(json.dumps(manifest))
    with pytest.raises(ReleaseError, match="untrained is the name of a different release"):
        lifecycle.register(context, other)


def test_unloading_an_unloaded_release_succeeds_and_loading_an_unknown_one_fails(
    context: Context,
) -> None:
    url = context.settings.worker.triton_url
    model_control.unload(url, "geotag_nosuch")
    with pytest.raises(ModelNotLoaded, match="Triton does not load geotag_nosuch"):
        model_control.load(url, "geotag_nosuch")
