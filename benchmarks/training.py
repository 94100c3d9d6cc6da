"""Throughput and memory of training and serving a locator, against the arithmetic limit.

`python -m benchmarks.training` measures the published network (vit-b16, 12,893 fine cells) where
torch finds a GPU. Without a GPU it says so and measures vit-ti16 on small batches, which only shows
that the benchmark runs.

The limit is the FLOPs of a step's products (torch.utils.flop_counter, forward and backward) divided
by the device's peak. For a GPU the peak is the vendor's figure (dense bf16; --peak sets it for a
device that is not in PEAKS). For a CPU it is the measured speed of a large matrix product. CPU
figures are for one thread and in CPU time.
"""

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from triton_models.networks.presets import PRESETS, preset
from triton_models.networks.translocator import ServedLocator, TransLocator, TransLocatorConfig
from triton_models.training.augmentation import unchanged
from triton_models.training.config import Training
from triton_models.training.learner import Learner
from triton_models.training.loss import geolocation_loss
from triton_models.training.optimiser import make_optimiser

# Dense bf16 products, FLOP/s, as NVIDIA's data sheets state them.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
CELLS = {"coarse": 3298, "middle": 7202, "fine": 12893}


@dataclass(frozen=True)
class Measured:
    """Median seconds of one batch, and peak memory in bytes."""

    seconds: float
    memory: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    gpu = torch.cuda.is_available()
    parser.add_argument("--preset", choices=PRESETS, default="vit-b16" if gpu else "vit-ti16")
    parser.add_argument("--batch", type=int, default=64 if gpu else 2, help="photographs a step")
    parser.add_argument("--repeats", type=int, default=20 if gpu else 3)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=gpu)
    parser.add_argument("--peak", type=float, help="the device's peak, TFLOP/s (dense bf16)")
    given = parser.parse_args()
    device = torch.device("cuda" if gpu else "cpu")
    if not gpu:
        torch.set_num_threads(1)
    config = preset(given.preset, **CELLS, crops=1)  # ten crops cost ten times as much
    peak, source = peak_of(device, given.peak)
    name = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU"
    if not gpu:
        print("No GPU: what follows is a small network on the CPU.\n")
    print(
        f"{given.preset}, 3,298 / 7,202 / 12,893 cells, {config.branches}, {config.crop_size} px;"
        f" {name}, torch {torch.__version__}, {torch.get_num_threads()} threads;"
        f" batch {given.batch}, median of {given.repeats}; peak {peak / 1e12:.2f} TFLOP/s"
        f" ({source})\n"
    )
    flops = {
        "training": training_flops(config, given.batch) / given.batch,
        "serving": serving_flops(config, given.batch) / given.batch,
    }
    print("| what | precision | compiled | photographs/s | limit | reached | memory | GFLOP each |")
    print("|---|---|---|---|---|---|---|---|")
    for what, prepare in (("training", training_step), ("serving", serving_step)):
        for precision in ("fp32", "bf16"):
            for compiled in (False, True) if given.compile else (False,):
                step = prepare(config, given.batch, device, precision, compiled)
                found = measure(step, given.repeats, device)
                speed, limit = given.batch / found.seconds, peak / flops[what]
                print(
                    f"| {what} | {precision} | {'yes' if compiled else 'no'} | {speed:.3g} |"
                    f" {limit:.3g} | {speed / limit:.1%} | {found.memory / 2**30:.2f} GiB |"
                    f" {flops[what] / 1e9:.1f} |",
                    flush=True,
                )


def photographs(
    config: TransLocatorConfig, batch: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random pictures and class maps."""
    side = config.image_size
    with torch.device(device):
        image = torch.randint(256, (batch, side, side, 3), dtype=torch.uint8)
        ids = torch.randint(config.segmentation_classes, (batch, side, side), dtype=torch.uint8)
    return image, ids


def training_step(
    config: TransLocatorConfig, batch: int, device: torch.device, precision: str, compiled: bool
) -> Callable[[], None]:
    """Return a training step: augmentation, forward, backward, AdamW."""
    torch.manual_seed(0)
    network = TransLocator(config).to(device)
    learner = Learner(network, precision).to(device).train()
    if compiled:
        learner.compile()
    optimiser = make_optimiser(network, Training())
    image, ids = photographs(config, batch, device)
    variation = torch.from_numpy(unchanged()).to(device).expand(batch, -1)
    labels = torch.zeros(batch, 4, dtype=torch.int64, device=device)

    def step() -> None:
        geolocation_loss(learner(image, ids, variation), labels).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def serving_step(
    config: TransLocatorConfig, batch: int, device: torch.device, precision: str, compiled: bool
) -> Callable[[], None]:
    """Return a function that runs a batch through the served network."""
    torch.manual_seed(0)
    served = ServedLocator(TransLocator(config)).to(device).eval()
    if compiled:
        served.compile()
    image, ids = photographs(config, batch, device)

    def step() -> None:
        half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
        with torch.inference_mode(), half:
            served(image, ids)

    return step


def measure(step: Callable[[], object], repeats: int, device: torch.device) -> Measured:
    """Time a step after three warm-up runs, which also compile it where asked."""
    gpu = device.type == "cuda"
    # A CPU may be shared with other work: what counts there is processor time, on one thread.
    clock = time.perf_counter if gpu else time.process_time
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(3 + repeats):
        began = clock()
        step()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of the process so far
    memory = torch.cuda.max_memory_allocated() if gpu else resident
    return Measured(statistics.median(seconds[3:]), memory)


def training_flops(config: TransLocatorConfig, batch: int) -> int:
    """Return the FLOPs of the products of a training step, counted on torch's meta device."""
    with torch.device("meta"):
        network = TransLocator(config)
        side = config.crop_size
        pixels = torch.empty(batch, 3, side, side)
        semantics = torch.empty(batch, config.segmentation_classes, side, side)
        labels = torch.zeros(batch, 4, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        geolocation_loss(network(pixels, semantics), labels).backward()
    return counter.get_total_flops()


def serving_flops(config: TransLocatorConfig, batch: int) -> int:
    """Return the FLOPs of the products of a served batch."""
    with torch.device("meta"):
        served = ServedLocator(TransLocator(config))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        served(*photographs(config, batch, "meta"))
    return counter.get_total_flops()


def peak_of(device: torch.device, given: float | None) -> tuple[float, str]:
    """Return the device's peak FLOP/s, and the source of the figure."""
    if given:
        return given * 1e12, "as given"
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        for known, peak in PEAKS.items():
            if known in name.replace("-", " ").split():
                return peak, "NVIDIA's data sheet"
        raise SystemExit(f"the peak of {name} is not known here: give it by --peak")
    a = torch.randn(2048, 2048)
    found = measure(lambda: torch.mm(a, a), 5, device)
    return 2 * 2048**3 / found.seconds, "a product of 2,048 × 2,048 in fp32, measured"


if __name__ == "__main__":
    main()
