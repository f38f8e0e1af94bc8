"""Optimizers and the learning rate of a step."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from rsfm.blocks.schedules import ease
from rsfm.training.config import TrainingConfig


def make_optimizer(module: nn.Module, config: TrainingConfig, fused: bool = True) -> torch.optim.Optimizer:
    """Make the optimizer of a recipe over what is trained; biases and norms decay only if the recipe says so.

    A module's `undecayed` names more parameters that decay only then, its `rate_scales` those that learn with a share
    of the learning rate.

    Args:
        fused: take a step in one pass over the weights; not where gradients are unscaled before they are clipped.
    """
    scales: dict[str, float] = getattr(module, "rate_scales", {})
    sorted_out: dict[tuple[float, bool], list[nn.Parameter]] = {}
    undecayed: tuple[str, ...] = getattr(module, "undecayed", ())
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = config.decay_all or (parameter.ndim > 1 and not name.endswith(".bias") and name not in undecayed)
        sorted_out.setdefault((scales.get(name, 1.0), plain), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": sorted_out[scale, plain], "weight_decay": config.weight_decay if plain else 0.0}
        | ({"rate_scale": scale} if scales else {})
        for scale, plain in sorted(sorted_out, reverse=True)
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, fused=fused)
    betas = (0.9, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=fused)


def learning_rate(config: TrainingConfig, progress: float, epochs: float) -> float:
    """Return the learning rate at a moment of the training.

    Args:
        progress: share of the budget that is spent, from 0 to 1.
        epochs: how many passes the whole training makes; a schedule by epoch is constant inside one.
    """
    if config.schedule == "epoch" and epochs >= 1:
        progress = math.floor(progress * epochs) / epochs
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * ease(min(rest, 1.0), 1, config.final_rate)


def weight_decay(config: TrainingConfig, progress: float) -> float:
    """Return the weight decay at a moment of the training, from 0 to 1."""
    return config.weight_decay * ease(progress, 1, config.decay_growth)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all groups of an optimizer one learning rate, or their share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_scale", 1.0)


def set_weight_decay(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Give all groups of an optimizer that decay one weight decay."""
    for group in optimizer.param_groups:
        if group["weight_decay"]:
            group["weight_decay"] = decay


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Shrink the gradient of each parameter by itself to a norm of at most `limit`, as DINO does."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_((limit / (parameter.grad.norm() + 1e-6)).clamp(max=1))
