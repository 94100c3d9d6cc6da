"""Files of a miniature training run: a dozen pictures of 16 px, three partitions, a segmenter."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from triton_models.cells.geocells import Hierarchy, write_tables
from triton_models.cells.partitioning import Limits, build_hierarchy

SIZE = 16
CLASSES = ("dark", "dim", "light", "bright")
SCENES = ("indoor", "natural", "urban")
PHOTOGRAPHS = 12

CONFIG = """
out = "run"
[data]
photographs = "photographs.csv"
folder = "photographs"
partitions = "partitions.parquet"
segmentation = "segmentation.onnx"
processes = 0
[network]
preset = "vit-ti16"
width = 12
depth = 2
heads = 2
common = 8
patch_size = 4
crop_size = 8
image_size = 16
crops = 1
dropout = 0.1
[training]
epochs = 4
batch = 4
micro_batch = 4
learning_rate = 1e-2
log_every = 1
checkpoint_every = 3
device = "cpu"
"""


def write(folder: Path, config: str = CONFIG) -> Path:
    """Write all files of a training run; return the path of its configuration."""
    rng = np.random.default_rng(0)
    (folder / "photographs").mkdir()
    coordinates = np.stack([rng.uniform(-180, 180, PHOTOGRAPHS), rng.uniform(-60, 60, PHOTOGRAPHS)])
    with (folder / "photographs.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "latitude", "longitude", "scene", "split"])
        for k, (longitude, latitude) in enumerate(coordinates.T):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photographs" / f"{k}.png")
            scene = ("", *SCENES)[k % 4]
            split = "validation" if k % 6 == 5 else "train"
            lines.writerow([f"{k}.png", latitude, longitude, scene, split])
    write_tables(hierarchy(coordinates), folder)
    write_segmenter(folder / "segmentation.onnx")
    path = folder / "config.toml"
    path.write_text(config)
    return path


def hierarchy(coordinates: np.ndarray) -> Hierarchy:
    """Cells of longitude and latitude [2, n]."""
    built, _ = build_hierarchy(
        [coordinates.T], coarse=Limits(1, 8), middle=Limits(1, 4), fine=Limits(1, 2)
    )
    return built


def write_segmenter(path: Path) -> None:
    """Write a network whose class is the quarter in which the red channel's brightness lies."""
    nodes = [
        helper.make_node("Slice", ["pixels", "zero", "one", "last"], ["red4"]),
        helper.make_node("Squeeze", ["red4", "last"], ["red"]),
        helper.make_node("Div", ["red", "quarter"], ["ids"]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("quarter", TensorProto.UINT8, [], [64]),
    ]
    shape = ["batch", SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [*shape, 3])],
        [helper.make_tensor_value_info("ids", TensorProto.UINT8, shape)],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    path.with_suffix(".json").write_text(json.dumps({"classes": CLASSES}))
