"""Published results on the benchmarks, and recognition of a benchmark by its photographs.

Accuracies in per cent within 1, 25, 200, 750 and 2500 km, as the table of TransLocator (Pramanick
et al., ECCV 2022) has them. None of these systems was run here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from triton_models.evaluation.tables import EvaluationError

Row = tuple[float | None, float | None, float | None, float | None, float | None]


@dataclass(frozen=True)
class Benchmark:
    """A set of photographs on which systems are compared."""

    name: str
    photographs: int
    ids_sha256: str | None
    """SHA-256 of its ids, sorted, with a line feed between two; None if they are not known."""
    rows: tuple[tuple[str, Row], ...]
    note: str = ""


BENCHMARKS = (
    Benchmark(
        "Im2GPS",
        237,
        "718327c8eb88f37b631bad68a1d118464cdf0bfef10a1db481930ef2026ba98e",
        (
            ("Human", (None, None, 3.8, 13.9, 39.3)),
            ("[L]kNN, σ=4", (14.4, 33.3, 47.7, 61.6, 73.4)),
            ("MvMF", (8.4, 32.6, 39.4, 57.2, 80.2)),
            ("PlaNet", (8.4, 24.5, 37.6, 53.6, 71.3)),
            ("CPlaNet", (16.5, 37.1, 46.4, 62.0, 78.5)),
            ("ISNs (M, f, S3)", (16.5, 42.2, 51.9, 66.2, 81.0)),
            ("ISNs (M, f*, S3)", (16.9, 43.0, 51.9, 66.7, 80.2)),
            ("ResNet101", (14.3, 41.4, 51.9, 64.1, 78.9)),
            ("EfficientNet-B4", (15.4, 42.7, 52.8, 64.8, 79.5)),
            ("ViT base", (16.9, 43.4, 54.5, 67.8, 80.7)),
            ("ViT base + Seg", (17.6, 44.8, 58.9, 70.0, 83.3)),
            ("+ multimodal feature fusion", (19.0, 47.2, 62.7, 73.5, 85.7)),
            ("+ scene = TransLocator", (19.9, 48.1, 64.6, 75.6, 86.7)),
            ("ViT-MT", (18.2, 46.4, 62.1, 74.5, 85.2)),
        ),
    ),
    Benchmark(
        "Im2GPS3k",
        2997,
        "d9d0bf8e752b4ed89db8e04e261ed724a6c609e5c7c428c27baed5578aa30379",
        (
            ("ISNs (M, f*, S3)", (10.5, 28.0, 36.6, 49.7, 66.0)),
            ("ResNet101", (9.0, 25.1, 32.8, 46.1, 63.5)),
            ("EfficientNet-B4", (9.2, 26.8, 32.7, 47.0, 63.9)),
            ("ViT base", (9.9, 28.0, 37.8, 54.2, 70.7)),
            ("ViT base + Seg", (10.5, 29.1, 42.5, 55.8, 73.6)),
            ("+ multimodal feature fusion", (11.1, 30.2, 45.0, 56.8, 78.1)),
            ("+ scene = TransLocator", (11.8, 31.1, 46.7, 58.9, 80.1)),
        ),
    ),
    Benchmark("YFCC4k", 4536, None, (("TransLocator", (8.4, 18.6, 27.0, 41.1, 60.4)),)),
    Benchmark(
        "YFCC26k",
        25600,
        "07174024f2821fb3aadd0dc95cb94961c7622eec3761eb96e1e8596966460eef",
        (),
        "We know of no accuracies; TransLocator states a gain of 9.9 points within 2500 km.",
    ),
)


def benchmark_named(name: str) -> Benchmark:
    """Return the benchmark of a name, in upper or lower case.

    Raises:
        EvaluationError: there is none.
    """
    for benchmark in BENCHMARKS:
        if benchmark.name.casefold() == name.casefold():
            return benchmark
    names = ", ".join(b.name for b in BENCHMARKS)
    raise EvaluationError(f"no benchmark {name}; known are {names}")


def recognised(ids: Collection[str]) -> Benchmark | None:
    """Return the benchmark that has exactly these ids, or None."""
    digest = sha256("\n".join(sorted(ids)).encode()).hexdigest()
    return next((b for b in BENCHMARKS if b.ids_sha256 == digest), None)


def size_hint(photographs: int) -> str | None:
    """Return a hint if there are as many photographs as in a benchmark, with other ids."""
    for benchmark in BENCHMARKS:
        if benchmark.photographs == photographs:
            return (
                f"{photographs} photographs, as {benchmark.name} has, but not the ids known here:"
                f" --benchmark {benchmark.name} sets its published results beside"
            )
    return None
