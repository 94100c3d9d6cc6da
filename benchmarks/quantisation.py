"""Compare a release in fp32 and int8: size, speed, and accuracy on the same photographs.

    .venv/bin/python -m benchmarks.quantisation [RELEASE | --folds FOLDER]
        [--photographs ../shared/photos/landmarks]

With `--folds`, each folder in it is a release whose `held_out.txt` lists the photographs that it
was not trained on (relative to --photographs, one a line). Each release is quantised on its
training photographs and evaluated on its held-out ones. Without `--folds`, RELEASE is compared on
photographs that it may have been trained on, which shows whether int8 changes its answers, not how
good they are.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.points import COLUMNS
from geotag.context import make_context
from geotag.evaluation.evaluate import run_evaluation
from geotag.releases.lifecycle import find
from geotag.releases.pictures import decoded
from triton_models.answer.decoding import Decoded, evidence
from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import great_circle_km
from triton_models.evaluation.compare import mcnemar_exact
from triton_models.release.export import LOCATOR_OUTPUTS
from triton_models.release.quantise import quantise
from triton_models.release.release import Release

RADIUS = 2  # the 200 km of CONFIDENCE


class Asked:
    """One release on ONNX Runtime on one thread, with its answers and their CPU times."""

    def __init__(self, release: Release) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.decoder = release.decoder
        self.segmentation, self.locator = (
            onnxruntime.InferenceSession(release.file(f"{name}.onnx"), options)
            for name in ("segmentation", "translocator")
        )
        self.seconds = np.zeros(2)
        self.evidence: list[float] = []

    def __call__(self, picture: NDArray[np.uint8]) -> Decoded:
        """Return the answer for UINT8 [S, S, 3]."""
        began = time.process_time()
        (maps,) = self.segmentation.run(None, {"IMAGE": picture[None]})
        between = time.process_time()
        feed = {"IMAGE": picture[None], "CLASS_MAP": maps}
        logits = self.locator.run(list(LOCATOR_OUTPUTS), feed)
        self.seconds += between - began, time.process_time() - between
        coarse, middle, fine, scene = (x[0] for x in logits)
        self.evidence.append(evidence(fine))
        return self.decoder.decode(coarse, middle, fine, scene)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", nargs="?", default="landmarks")
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--photographs", type=Path, default=Path("../shared/photos/landmarks"))
    parser.add_argument("--every", type=int, default=1, help="only every so many-th photograph")
    parser.add_argument("--samples", type=int, default=128, help="that set the ranges of int8")
    given = parser.parse_args()
    settings = make_context().settings
    with (given.photographs / "metadata.csv").open(newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    parts: list[tuple[Release, list[str], list[str]]] = []  # to be asked, and to set the ranges
    if given.folds:
        for folder in sorted(path.parent for path in given.folds.glob("*/held_out.txt")):
            held_out = (folder / "held_out.txt").read_text().split()
            learnt = sorted(truth.keys() - held_out)
            parts.append((Release.load(folder), held_out[:: given.every], learnt))
    else:
        names = sorted(truth)[:: given.every]
        others = sorted(truth.keys() - names) or names
        parts = [(find(settings, given.release), names, others)]
    said: dict[str, list[tuple[str, Decoded]]] = {"fp32": [], "int8": []}
    with tempfile.TemporaryDirectory() as folder:
        for number, (release, names, others) in enumerate(parts):
            step = max(1, len(others) // given.samples)
            paths = [given.photographs / name for name in others[::step]]
            samples = np.stack([p for _path, p in decoded(settings.worker, release, paths)])
            int8 = quantise(release, Path(folder, str(number)), samples)
            systems = {"fp32": Asked(release), "int8": Asked(int8)}
            pictures = decoded(settings.worker, release, [given.photographs / n for n in names])
            for path, picture in track(pictures, total=len(names)):
                name = path.relative_to(given.photographs).as_posix()
                for system, ask in systems.items():
                    said[system].append((name, ask(picture)))
            for system, ask in systems.items():
                one = release if system == "fp32" else int8
                cost = ask.seconds / len(names) * 1e3
                size = [
                    one.file(f"{x}.onnx").stat().st_size for x in ("segmentation", "translocator")
                ]
                print(
                    f"{release.name} {system}: {size[0] / 1e6:.1f} + {size[1] / 1e6:.1f} MB,"
                    f" segmentation {cost[0]:.1f} + locator {cost[1]:.1f} CPU ms a photograph"
                )
            ours, theirs = (np.array(ask.evidence) for ask in systems.values())
            print(
                f"evidence (what tells the familiar): {ours.mean():.2f} and {theirs.mean():.2f},"
                f" of spread {ours.std():.2f}; moves by {np.abs(theirs - ours).mean():.2f}"
            )
        compare(said["fp32"], said["int8"])
        score(said, truth, Path(folder))


def compare(ours: Sequence[tuple[str, Decoded]], theirs: Sequence[tuple[str, Decoded]]) -> None:
    """Print the agreement of the two, regardless of the truth."""
    pairs = [(a, b) for (_n, a), (_m, b) in zip(ours, theirs, strict=True)]
    same = np.mean([a.cells[2] == b.cells[2] for a, b in pairs])
    print(f"{len(pairs)} photographs: {same:.2%} have the same fine cell")
    for system, answers in (("fp32", ours), ("int8", theirs)):
        abstained = np.mean([d.abstention != "" for _n, d in answers])
        confidence = np.mean([d.confidence[RADIUS] for _n, d in answers])
        print(f"{system}: {abstained:.2%} abstain, mean 200 km confidence {confidence:.3f}")
    only = [
        sum((a.abstention != "") > (b.abstention != "") for a, b in order)
        for order in (pairs, [(b, a) for a, b in pairs])
    ]
    p = mcnemar_exact(*only)
    print(f"only fp32 abstains: {only[0]}, only int8: {only[1]} (exact McNemar p = {p:.2g})")
    moved = [abs(float(a.confidence[RADIUS] - b.confidence[RADIUS])) for a, b in pairs]
    print(f"200 km confidence moves by {np.median(moved):.3f} (median), {max(moved):.3f} (most)")


def score(
    said: dict[str, list[tuple[str, Decoded]]], truth: dict[str, dict[str, str]], folder: Path
) -> None:
    """Print the evaluator's comparison with its paired tests; abstentions count as answers."""
    files = []
    for system, answers in said.items():
        files.append(folder / f"{system}.csv")
        errors = []
        with files[-1].open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for name, answer in answers:
                latitude, longitude = (float(truth[name][k]) for k in ("latitude", "longitude"))
                at = float(answer.position[0]), float(answer.position[1])
                distance = float(great_circle_km(longitude, latitude, *at))
                writer.writerow((name, latitude, at[1], longitude, at[0], distance))
                errors.append((answer.confidence[RADIUS] - (distance <= RADII_KM[RADIUS])) ** 2)
        print(f"{system}: Brier at 200 km {np.mean(errors):.4f}")
    run_evaluation(
        predictions=files,
        form="table",
        results_for_folder=lambda _folder: (),
        results_for_run=lambda _run: (),
    )


if __name__ == "__main__":
    main()
