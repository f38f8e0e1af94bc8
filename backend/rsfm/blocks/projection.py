"""The head of self-distillation: a small network, a unit sphere, and prototypes that it is compared with.

Caron et al., 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv:2104.14294.
Weight normalisation: Salimans and Kingma, 2016, arXiv:1602.07868.

Shape letters: N vectors, D width, E bottleneck, K prototypes.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Prototypes(nn.Module):
    """A linear layer without bias whose row k is g_k v_k / |v_k|; every g starts at 1.

    Args:
        scaled: train g as well; otherwise every row stays as long as its g.
    """

    def __init__(self, width: int, count: int, scaled: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1), requires_grad=scaled)
        self.weight_v = nn.Parameter(torch.empty(count, width))
        nn.init.kaiming_uniform_(self.weight_v, a=math.sqrt(5))  # what a linear layer starts with
        self.register_load_state_dict_pre_hook(_take_new_names)  # type: ignore[no-untyped-call]

    def forward(self, unit_NE: Tensor, frozen: bool = False) -> Tensor:
        """Return logits_NK; no gradient reaches frozen prototypes."""
        weight_KE = self.weight_g * functional.normalize(self.weight_v, dim=1)
        return functional.linear(unit_NE, weight_KE.detach() if frozen else weight_KE)


class ProjectionHead(nn.Module):
    """Three linear layers with GELU between them, brought to length 1, then prototypes."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int, scaled: bool) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.mlp.apply(initialise_normal)
        self.last_layer = Prototypes(bottleneck, prototypes, scaled)

    def forward(self, features_ND: Tensor, frozen: bool = False) -> Tensor:
        """Return logits_NK; no gradient reaches frozen prototypes."""
        logits_NK: Tensor = self.last_layer(self.direction(features_ND), frozen)
        return logits_NK

    def direction(self, features_ND: Tensor) -> Tensor:
        """Return unit_NE, the point on the sphere that the prototypes are compared with; float32."""
        return functional.normalize(self.mlp(features_ND).float(), dim=-1)  # fp16 has no floor for a length of 0


def initialise_normal(module: nn.Module) -> None:
    """Give fresh weights to linear layers (normal, 0.02) and norms, as DINO does; use with `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _take_new_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Accept what torch's newer weight normalisation calls g and v."""
    for new, ours in (("original0", "weight_g"), ("original1", "weight_v")):
        name = f"{prefix}parametrizations.weight.{new}"
        if name in state:
            state[prefix + ours] = state.pop(name)
