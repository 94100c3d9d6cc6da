"""Optimiser and learning-rate schedule: weight decay, the stem's rate, warm-up and cosine."""

import math

import torch
from torch import nn

from triton_models.networks.translocator import TransLocator
from triton_models.training.config import Training


def make_optimiser(network: TransLocator, config: Training) -> torch.optim.Optimizer:
    """Return AdamW, or SGD with momentum, over the parameters that are not frozen.

    Weight decay applies to matrices and kernels only. The stem has its own learning rate, as is
    customary in fine-tuning: a group's `share` multiplies the learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))
            groups.setdefault((name.startswith("stem."), decays), []).append(parameter)
    parameters = [
        {
            "params": members,
            "weight_decay": config.weight_decay if decays else 0.0,
            "share": config.stem_rate if stem else 1.0,
        }
        for (stem, decays), members in groups.items()
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.AdamW(parameters, lr=config.learning_rate)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's learning rate to its share of `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]


def rate_at(step: int, steps: int, config: Training) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then a cosine to 0.

    See Loshchilov and Hutter, arXiv:1608.03983.
    """
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
