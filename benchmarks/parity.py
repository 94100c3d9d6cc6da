"""Agreement and speed of PyTorch, ONNX Runtime and Triton on the same photographs.

    .venv/bin/geotag up
    .venv/bin/python -m benchmarks.parity [RELEASE …] [--photographs ../shared/photos] [--count 200]
        [--modules FOLDER]

Each release runs as ONNX files on one thread, as the ensemble of the local Triton, and as PyTorch
modules. The modules of `untrained` are made here. For another release, FOLDER has `segmentation.pt`
and its JSON file from `triton_models.segmentation train`, and `translocator.pt` from the work
folder of `triton_models.landmarks release`. The difference of logits is a share of the largest
logit. Times are CPU times for one decoded photograph at a time, which depend little on other load.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import torch
import tritonclient.grpc as triton
from numpy.typing import NDArray
from torch import nn

from deploy import model_control
from deploy.local import stack as local_stack
from geotag.context import Context, make_context
from geotag.releases import lifecycle
from geotag.releases.pictures import prepared
from triton_models.networks.segmentation import ServedSegmentation
from triton_models.networks.translocator import TransLocatorConfig
from triton_models.release import untrained
from triton_models.release.export import LOCATOR_OUTPUTS, relative_difference
from triton_models.release.release import Release
from triton_models.segmentation import student

NAMES = ("CLASS_MAP", *LOCATOR_OUTPUTS)

Answer = dict[str, NDArray[np.generic]]
Ask = Callable[[NDArray[np.uint8]], Answer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", default=[untrained.NAME])
    parser.add_argument("--photographs", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--modules", type=Path, help="the PyTorch modules of the one RELEASE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    context = make_context()
    print("| release | MB | in | CPU ms | against ONNX Runtime: logits | pixels of another class |")
    print("|---|---|---|---|---|---|")
    for name in given.releases:
        release = lifecycle.find(context.settings, name)
        lifecycle.record(context, release)
        lifecycle.serve(context, release.name, release.digest)
        model_control.load(context.settings.worker.triton_url, release.inspection)
        _paths, pictures = prepared(
            context.settings.worker, release, given.photographs, given.count
        )
        size = sum(
            release.file(f"{x}.onnx").stat().st_size for x in ("segmentation", "translocator")
        )
        places: dict[str, Ask] = {"ONNX Runtime": onnx_runtime(release)}
        with triton.InferenceServerClient(context.settings.worker.triton_url) as client:
            places["Triton"] = ensemble(client, release)
            if found := modules(release, given.modules):
                places["PyTorch"] = pytorch(*found)
                given_maps = pytorch(*found, maps_from=places["ONNX Runtime"])
                places["PyTorch, on that class map"] = given_maps
            reference: list[Answer] = []
            for place, ask in places.items():
                clock = triton_seconds(context) if place == "Triton" else time.process_time
                answers, milliseconds = timed(ask, pictures, clock)
                reference = reference or answers
                logits, pixels = compare(reference, answers)
                print(
                    f"| {name} ({len(pictures)} photographs) | {size / 1e6:.1f} | {place} |"
                    f" {milliseconds:.1f} | {logits:.1e} | {pixels:.1e} |",
                    flush=True,
                )
        lifecycle.retire(context)


def timed(
    ask: Ask, pictures: NDArray[np.uint8], clock: Callable[[], float]
) -> tuple[list[Answer], float]:
    """Return the answers to all pictures, and the mean milliseconds of one by that clock."""
    ask(pictures[0])
    began = clock()
    answers = [ask(picture) for picture in pictures]
    return answers, (clock() - began) / len(pictures) * 1e3


def triton_seconds(context: Context) -> Callable[[], float]:
    """Return the CPU seconds of the local Triton and its model processes."""
    (pid,) = (
        line.pid for line in local_stack.status(context.settings.stack) if line.name == "triton"
    )
    server = psutil.Process(pid)

    def used() -> float:
        family = [server, *server.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in family)

    return used


def compare(ours: list[Answer], theirs: list[Answer]) -> tuple[float, float]:
    """Return the largest relative difference of a logit, and the share of differing pixels."""
    logits = max(
        relative_difference(a[name], b[name])
        for a, b in zip(ours, theirs, strict=True)
        for name in LOCATOR_OUTPUTS
    )
    pixels = np.mean(
        [(a["CLASS_MAP"] != b["CLASS_MAP"]).mean() for a, b in zip(ours, theirs, strict=True)]
    )
    return logits, float(pixels)


def onnx_runtime(release: Release) -> Ask:
    """Return a function that runs both ONNX files on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    segmentation, locator = (
        onnxruntime.InferenceSession(release.file(f"{name}.onnx"), options)
        for name in ("segmentation", "translocator")
    )

    def ask(picture: NDArray[np.uint8]) -> Answer:
        image = picture[None]
        (maps,) = segmentation.run(None, {"IMAGE": image})
        logits = locator.run(list(LOCATOR_OUTPUTS), {"IMAGE": image, "CLASS_MAP": maps})
        return dict(zip(NAMES, (maps[0], *(x[0] for x in logits)), strict=True))

    return ask


def modules(release: Release, folder: Path | None) -> tuple[nn.Module, nn.Module] | None:
    """Return the modules that the release was exported from, or None where they are missing."""
    if release.name == untrained.NAME:
        return untrained.networks(TransLocatorConfig(**release.manifest.locator.config))
    if folder is None:
        return None
    locator: nn.Module = torch.load(folder / "translocator.pt", weights_only=False)
    return ServedSegmentation(student.load(folder / "segmentation.pt")), locator.eval()


def pytorch(segmentation: nn.Module, locator: nn.Module, maps_from: Ask | None = None) -> Ask:
    """Return a function that runs the modules on one thread.

    A near-tie of two classes may give another class map. `maps_from` provides the same map to both
    locators, to compare the locators alone.
    """

    def ask(picture: NDArray[np.uint8]) -> Answer:
        with torch.inference_mode():
            image = torch.from_numpy(picture[None])
            if maps_from:
                maps = torch.from_numpy(maps_from(picture)["CLASS_MAP"][None])
            else:
                maps = segmentation(image)
            logits = locator(image, maps)
        return dict(zip(NAMES, (x[0].numpy() for x in (maps, *logits)), strict=True))

    return ask


def ensemble(client: triton.InferenceServerClient, release: Release) -> Ask:
    """Return a function that calls the inspection ensemble, with decoding and all tensors."""
    config = client.get_model_config(release.inspection).config
    wanted = [triton.InferRequestedOutput(output.name) for output in config.output]

    def ask(picture: NDArray[np.uint8]) -> Answer:
        image = triton.InferInput("IMAGE", [1, *picture.shape], "UINT8")
        image.set_data_from_numpy(picture[None])
        answer = client.infer(release.inspection, [image], outputs=wanted)
        return {name: answer.as_numpy(name)[0] for name in NAMES}

    return ask


if __name__ == "__main__":
    main()
