"""Plan of a training run, before any picture is read; `geotag train --dry-run` prints it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triton_models.cells.geocells import LEVELS, Hierarchy, read_partitions
from triton_models.networks.presets import preset
from triton_models.networks.translocator import TransLocator, TransLocatorConfig
from triton_models.training.augmentation import VARIATION
from triton_models.training.config import Config, ConfigError
from triton_models.training.learner import Learner
from triton_models.training.loop import TrainingLength
from triton_models.training.photographs import Photographs, read_rows, select
from triton_models.training.semantics import Segmenter


@dataclass(frozen=True)
class TrainingPlan:
    """A configuration, and what follows from it and its tables."""

    config: Config
    network: TransLocatorConfig
    hierarchy: Hierarchy
    training: Photographs
    validation: Photographs
    schedule: TrainingLength
    segmenter: Segmenter | None
    """None for a network without class maps."""

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the data: labelled photographs, cells, segmentation network."""
        training, cells = self.training, hashlib.sha256()
        photographs = hashlib.sha256("\n".join(training.files).encode())
        photographs.update(np.ascontiguousarray(training.labels).tobytes())
        for partition in self.hierarchy.partitions:
            cells.update("\n".join(partition.tokens).encode())
        return {
            "data.photographs": photographs.hexdigest(),
            "data.partitions": cells.hexdigest(),
            "data.segmentation": self.segmenter.sha256 if self.segmenter else "",
        }


def plan(config: Config, processes: int = 1) -> TrainingPlan:
    """Read the tables and plan the run; raises ConfigError."""
    _check_folder("out", config.out)
    _check_folder("data.cache", config.data.cache)
    try:
        hierarchy = read_partitions(config.data.partitions)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"data.partitions: {error}") from error
    network, segmenter = _network(config, hierarchy)
    rows = read_rows(config.data.photographs)
    training, validation = (
        select(rows, splits, hierarchy, config.data.scenes)
        for splits in (config.data.train_splits, config.data.validation_splits)
    )
    if not len(training):
        raise ConfigError(
            f"{config.data.photographs}: no row whose split is one of {config.data.train_splits}"
        )
    schedule = TrainingLength.of(config, len(training), processes)
    return TrainingPlan(config, network, hierarchy, training, validation, schedule, segmenter)


def _check_folder(key: str, folder: Path) -> None:
    """Raise ConfigError for a folder that cannot be created, without creating it."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise ConfigError(f"{key}: {folder}: {error.strerror}") from error
    if not there.is_dir():
        raise ConfigError(f"{key} is a folder; {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}: {there} cannot be written to")


def _network(config: Config, hierarchy: Hierarchy) -> tuple[TransLocatorConfig, Segmenter | None]:
    sizes = {name: len(p) for name, p in zip(LEVELS, hierarchy.partitions, strict=True)}
    changes: dict[str, Any] = {"scenes": len(config.data.scenes)} | config.network.changes
    try:
        network = preset(config.network.preset, **sizes, **changes)
        with torch.device("meta"):
            TransLocator(network)  # finds errors of the configuration before any picture is read
        if network.branches == "rgb":
            return network, None
        if config.data.segmentation is None:
            raise ConfigError(
                "data.segmentation names no network, but the locator looks at class maps:"
                ' name one, or set network.branches = "rgb"'
            )
        segmenter = Segmenter(config.data.segmentation)
        if not segmenter.takes(network.image_size):
            raise ConfigError(
                f"{config.data.segmentation} does not take pictures of {network.image_size} px"
            )
        changes["segmentation_classes"] = len(segmenter.classes)
        return preset(config.network.preset, **sizes, **changes), segmenter
    except (ValueError, TypeError) as error:
        raise (
            error if isinstance(error, ConfigError) else ConfigError(f"network: {error}")
        ) from error


@dataclass(frozen=True)
class Cost:
    """Number of parameters of a network, and bytes of memory in training."""

    parameters: int
    learning: int
    state_bytes: int
    """Bytes of weights, gradients and optimiser state, FP32."""
    activation_bytes: int
    """Bytes of activations of one micro-batch in FP32. With bf16 it is about half."""


def cost(plan: TrainingPlan) -> Cost:
    """Return a run's memory, measured by a forward pass on torch's meta device."""
    training = plan.config.training
    with torch.device("meta"):
        network = TransLocator(plan.network)
        if network.stem is not None:
            network.stem.freeze(plan.config.weights.freeze_stem)
        learner = Learner(network).train()
        size, batch = plan.network.image_size, plan.schedule.micro_batch
        image = torch.empty(batch, size, size, 3, dtype=torch.uint8)
        ids = torch.empty(batch, size, size, dtype=torch.uint8)
        variation = torch.empty(batch, VARIATION)
        kept: dict[int, int] = {}
        own = {id(p.untyped_storage()) for p in network.parameters()}

        def keep(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            scores = learner(image, ids, variation)
    del scores
    parameters = list(network.parameters())
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    states = 2 if training.optimiser == "adamw" else 1
    total = sum(p.numel() for p in parameters)
    return Cost(total, learning, 4 * (total + (1 + states) * learning), sum(kept.values()))
