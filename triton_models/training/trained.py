"""The results of a finished run: everything of a release except its calibration.

The folder can be moved. Of other places it refers only to the pictures.
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
    """Write weights, partitions and photographs; with a scene head also a release's networks."""
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
        # torch's exporter warns about missing packages and about itself, which helps no user.
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
    # Written last: it marks the folder as complete.
    (out / NETWORK).write_text(json.dumps(description, indent=2) + "\n")


@dataclass(frozen=True, eq=False)
class Trained:
    """The folder of a finished run."""

    folder: Path
    network: TransLocatorConfig
    description: dict[str, Any]
    """The contents of `network.json`."""
    hierarchy: Hierarchy
    photographs: pa.Table
    """Columns: file, longitude, latitude (degrees, WGS 84), scene ("" for none), split."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the folder; raises ConfigError where the run has not finished or a file lacks."""
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
        """Return the names of the scene head's classes."""
        return tuple(self.description["config"]["data"]["scenes"])

    def rows(self, split: str) -> list[Row]:
        """Return the photographs of a split: VALIDATION or LEARNT."""
        return [Row(**row) for row in self.photographs.filter(of(split)).to_pylist()]

    def count(self, split: str, scene: str | None = None) -> int:
        """Return the number of photographs of a split; with `scene`, of that scene."""
        chosen = of(split)
        if scene is not None:
            chosen &= pc.field("scene") == scene
        return int(self.photographs.filter(chosen).num_rows)


def of(split: str) -> pc.Expression:
    """Return which of the photographs are in a split."""
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
