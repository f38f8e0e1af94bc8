"""One linear layer trained on frozen features, step by step as DINO and SatDINO do.

Caron et al., 2021, arXiv:2104.14294, appendix F; Straka et al., 2025, "SatDINO".

Shape letters: N windows, F features, K classes, S steps, E epochs, B batch.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.schedules import cosine_by_epoch

MOMENTUM = 0.9
FIRST_SPREAD = 0.01
"""Deviation of the first weights."""


class Recipe(NamedTuple):
    """How a probe is trained.

    Attributes:
        lr: for a batch of 256; it grows with the batch, and falls to 0 along half a cosine, epoch by epoch.
    """

    optimizer: Literal["sgd", "adamw"]
    lr: float
    epochs: int
    batch: int

    def lr_of(self, epoch: int) -> float:
        return self.lr * self.batch / 256 * cosine_by_epoch(epoch, self.epochs)


DINO = Recipe("sgd", 0.001, 100, 1024)
SATDINO = Recipe("adamw", 1e-5, 25, 1024)


class Trained(NamedTuple):
    """A probe, and how its training went: the loss of every step, the learning rate of every epoch."""

    layer: nn.Linear
    losses: list[float]
    rates: list[float]


def fresh_layer(features: int, classes: int, seed: int) -> nn.Linear:
    """Make the layer that training starts from."""
    layer = nn.Linear(features, classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.normal_(0, FIRST_SPREAD, generator=generator)
        layer.bias.zero_()
    return layer


def shuffled(count: int, epochs: int, seed: int) -> Iterable[Tensor]:
    """Return the order of the windows in each epoch."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randperm(count, generator=generator) for _ in range(epochs))


def train_probe(
    layer: nn.Linear, features_NF: Tensor, class_N: Tensor, recipe: Recipe, orders: Iterable[Tensor]
) -> Trained:
    """Train a layer; windows come in an order of their own in each epoch, and the last batch may be short."""
    optimizer = _optimizer(layer, recipe)
    losses, rates = [], []
    for epoch, order_N in enumerate(orders):
        rates.append(recipe.lr_of(epoch))
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        for index_B in torch.split(order_N, recipe.batch):
            loss = functional.cross_entropy(layer(features_NF[index_B]), class_N[index_B])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    return Trained(layer, losses, rates)


def _optimizer(layer: nn.Linear, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(layer.parameters(), recipe.lr, momentum=MOMENTUM, weight_decay=0)
    return torch.optim.AdamW(layer.parameters(), recipe.lr, weight_decay=0)
