"""What a run leaves in its folder when it has ended: all of a release but its calibration.

Nothing of it points back to where the run took place, except for the pictures themselves.
"""

import json
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.torch import save

from triton_models.cells.geocells import Hierarchy, partition_table, read_partitions
from triton_models.networks.translocator import ServedLocator, TransLocator, TransLocatorConfig
from triton_models.release.export import export_locator
from triton_models.release.release import sha256_of
from triton_models.training import segmentation_graph
from triton_models.training.config import ConfigError
from triton_models.training.photographs import HEADS, Row
from triton_models.training.plan import TrainingPlan

NETWORK = "network.json"
WEIGHTS = "network.safetensors"
EXPORT = "translocator.onnx"
SEGMENTATION = "segmentation.onnx"
PARTITIONS = "partitions.parquet"
PHOTOGRAPHS = "photographs.parquet"

LEARNT, VALIDATION = "learnt", "validation"


def write(network: TransLocator, plan: TrainingPlan) -> None:
    """Write the weights and what they belong to; with a scene head, the networks of a release."""
    network, config, out = network.cpu().eval(), plan.config, plan.config.out
    weights = save({name: x.contiguous() for name, x in network.state_dict().items()})
    (out / WEIGHTS).write_bytes(weights)
    pq.write_table(partition_table(plan.hierarchy), out / PARTITIONS, compression="zstd")
    pq.write_table(_table(plan), out / PHOTOGRAPHS, compression="zstd")
    if network.config.scenes:
        if config.data.segmentation and plan.segmenter:
            segmentation_graph.write_served(
                config.data.segmentation, out / SEGMENTATION, plan.network.image_size
            )
        else:
            segmentation_graph.write_blank(out / SEGMENTATION, plan.network.image_size)
        # What torch's exporter says of packages that are not here, and of itself, helps nobody.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            export_locator(ServedLocator(network), out / EXPORT)
    description = {
        "network": asdict(network.config),
        "classes": plan.segmenter.classes if plan.segmenter else None,
        "locator_reads": sha256_of(out / SEGMENTATION) if network.config.scenes else None,
        "config": config.model_dump(mode="json"),
        **plan.digests,
    }
    # Last: a folder that has it is whole.
    (out / NETWORK).write_text(json.dumps(description, indent=2) + "\n")


@dataclass(frozen=True, eq=False)
class Trained:
    """The folder of a run that has ended."""

    folder: Path
    network: TransLocatorConfig
    description: dict[str, Any]
    """What `network.json` says."""
    hierarchy: Hierarchy
    photographs: pa.Table
    """Columns: file, longitude, latitude (degrees, WGS 84), scene ("" for none), split."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it back; raises ConfigError where the run has not ended, or something is missing."""
        files = (NETWORK, WEIGHTS, PARTITIONS, PHOTOGRAPHS)
        if missing := [name for name in files if not (folder / name).is_file()]:
            raise ConfigError(
                f"{folder} is not the folder of a run that has ended: no {', '.join(missing)};"
                " geotag train CONFIG --resume ends it"
            )
        try:
            description = json.loads((folder / NETWORK).read_text())
            return cls(
                folder,
                TransLocatorConfig(**description["network"]),
                description,
                read_partitions(folder / PARTITIONS),
                pq.read_table(folder / PHOTOGRAPHS),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{folder}: damaged: {error}") from error

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scene head's classes."""
        return tuple(self.description["config"]["data"]["scenes"])

    def rows(self, split: str) -> list[Row]:
        """The photographs that it was measured on while training (VALIDATION), or LEARNT from."""
        return [Row(**row) for row in self.photographs.filter(of(split)).to_pylist()]

    def count(self, split: str, scene: str | None = None) -> int:
        """How many photographs a split has; with `scene`, those that are labelled so."""
        chosen = of(split)
        if scene is not None:
            chosen &= pc.field("scene") == scene
        return int(self.photographs.filter(chosen).num_rows)


def of(split: str) -> pc.Expression:
    """Which of the photographs are in a split."""
    return pc.field("split") == split


def _table(plan: TrainingPlan) -> pa.Table:
    names, scene = (*plan.config.data.scenes, ""), HEADS.index("scene")  # "" is [-1], NO_LABEL
    return pa.concat_tables(
        pa.table(
            {
                "file": pa.array(photographs.files, pa.string()),
                "longitude": photographs.longitude,
                "latitude": photographs.latitude,
                "scene": pa.array([names[k] for k in photographs.labels[:, scene]], pa.string()),
                "split": pa.array([split] * len(photographs), pa.string()),
            }
        )
        for split, photographs in ((LEARNT, plan.training), (VALIDATION, plan.validation))
    )
