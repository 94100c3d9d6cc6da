"""A whole training run: class maps, network and weights, the loop, and the results."""

from collections.abc import Callable

import torch

from triton_models.networks.pretrained import WeightsError, load_stem, load_vit
from triton_models.networks.translocator import TransLocator, TransLocatorConfig
from triton_models.training import trained
from triton_models.training.checkpoint import FILE, Checkpoint, recipe
from triton_models.training.config import ConfigError, Weights
from triton_models.training.distributed import World
from triton_models.training.examples import Examples
from triton_models.training.loop import Material, Report, Trainer
from triton_models.training.pictures import Pictures
from triton_models.training.plan import TrainingPlan
from triton_models.training.semantics import ClassMaps, Segmenter


def run(
    plan: TrainingPlan,
    pictures: Pictures,
    world: World,
    *,
    resume: bool = False,
    made: Callable[[int], None] = lambda _: None,
    watch: Callable[[Report], None] = lambda _: None,
) -> dict[str, float]:
    """Train as planned; return the figures of the last validation.

    `made` is called with the number of further pictures that have a class map, `watch` with the
    progress of training. Raises ConfigError, WeightsError, Diverged and Stopped.
    """
    check(plan, resume=resume)
    try:
        plan.config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {error.filename}: {error.strerror}") from error
    network = initial_network(plan.network, plan.config.weights, plan.config.training.seed)
    maps = class_maps(plan, pictures, world, made)
    trainer = Trainer(plan.config, network, material(plan, pictures, maps), world, watch)
    if resume:
        trainer.resume()
    found = trainer.train()
    if world.first:
        trained.write(trainer.network, plan)
    # A process that ends right after a sum aborts if gloo's threads still use its tensors.
    world.wait()
    return found


def check(plan: TrainingPlan, *, resume: bool) -> None:
    """Raise ConfigError where a run would be overwritten, or where none can be resumed."""
    if resume:
        Checkpoint.load(plan.config.out, recipe(plan.config, **plan.digests))
    elif (plan.config.out / FILE).exists():
        raise ConfigError(f"{plan.config.out} holds a run: --resume it, or set another out")


def initial_network(config: TransLocatorConfig, weights: Weights, seed: int) -> TransLocator:
    """Return the network with its initial weights; raises WeightsError."""
    torch.manual_seed(seed)
    network = TransLocator(config)
    if weights.vit is not None:
        load_vit(network, weights.vit)
    if network.stem is not None:
        if weights.stem is not None:
            load_stem(network.stem, weights.stem)
        network.stem.freeze(weights.freeze_stem)
    elif weights.stem is not None:
        raise WeightsError("weights.stem: the network has no stem; ViTs load by weights.vit")
    return network


def class_maps(
    plan: TrainingPlan, pictures: Pictures, world: World, made: Callable[[int], None]
) -> ClassMaps | None:
    """Make the missing class maps, each process its share; return None where none are needed."""
    if plan.segmenter is None:
        return None
    data = plan.config.data
    assert data.segmentation is not None
    maps = ClassMaps(data.cache, plan.segmenter.sha256, data.fit, plan.network.image_size)
    files = [*plan.training.files, *plan.validation.files]
    gpu = world.device.index or 0 if world.device.type == "cuda" else None
    maps.make(
        files[world.rank :: world.size],
        pictures,
        Segmenter(data.segmentation, gpu),  # a temporary one, which frees the GPU's memory
        source=data.folder,
        processes=data.processes,
        writer=world.rank,
        made=made,
    )
    world.wait()  # for the other processes' maps
    return ClassMaps(data.cache, plan.segmenter.sha256, data.fit, plan.network.image_size)


def material(plan: TrainingPlan, pictures: Pictures, maps: ClassMaps | None) -> Material:
    """Return the examples of a run."""
    size, config = plan.network.image_size, plan.config
    return Material(
        training=plan.training,
        examples=Examples(
            plan.training, pictures, maps, size, config.training.seed, config.augmentation
        ),
        validation=plan.validation,
        validation_examples=Examples(plan.validation, pictures, maps, size),
        hierarchy=plan.hierarchy,
        digests=plan.digests,
    )
