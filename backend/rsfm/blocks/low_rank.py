"""Low-rank adapters: layers stay as they are and learn a product of two thin matrices, which is added to their weights.

Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685. The sum is made before it is
used, so that a layer with its adapter and the same layer with the sum as its weights give the same numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 2.0
"""What the product is multiplied by: LoRA's alpha over its rank."""


class LowRank(nn.Module):
    """A linear layer or a convolution with its adapter, which starts as nothing."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer
        rows, columns = layer.weight.shape[0], layer.weight[0].numel()
        self.down = nn.Parameter(layer.weight.new_empty(rank, columns))
        self.up = nn.Parameter(layer.weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """The layer's weights with what was learned, for those that read them in place of calling the layer."""
        return self.layer.weight + SCALE * (self.up @ self.down).view_as(self.layer.weight)

    def forward(self, features: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return functional.linear(features, self.weight, self.layer.bias)
        convolved: Tensor = self.layer._conv_forward(features, self.weight, self.layer.bias)
        return convolved


def add_adapters(module: nn.Module, rank: int, wanted: Callable[[str], bool]) -> None:
    """Put adapters around the linear layers and convolutions whose names are wanted, in place."""
    found = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and wanted(name)
    ]
    for name, layer in found:
        _replace(module, name, LowRank(layer, rank))


@torch.no_grad()
def merge_adapters(module: nn.Module) -> None:
    """Add to the layers what their adapters have learned, and take the adapters away, in place."""
    found = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LowRank)]
    for name, adapter in found:
        adapter.layer.weight.copy_(adapter.weight)
        _replace(module, name, adapter.layer)


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)
