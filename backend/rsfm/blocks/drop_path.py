"""Stochastic depth: leave residual branches out at random while training.

Huang et al., 2016, arXiv:1603.09382; by subsets of a batch as DINOv2 does, Oquab et al., 2023, arXiv:2304.07193.

Shape letters: B batch, L tokens, D width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rsfm.blocks.ranks import own_rows, ranks, same_for_all


class SampleDropPath(nn.Module):
    """Keeps the branch of each window by a draw of its own, larger by as much as the others lose."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch_BLD: Tensor) -> Tensor:
        if not self.training:
            return branch_BLD
        factor_B11 = own_rows(branch_BLD.new_empty(len(branch_BLD) * ranks(), 1, 1).bernoulli_(1 - self.rate))
        return branch_BLD * (factor_B11 / (1 - self.rate))


class SubsetDropPath(nn.Module):
    """Keeps the branch for a fixed share of a batch, larger by as much as the others lose."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch_BLD: Tensor) -> Tensor:
        if not self.training:
            return branch_BLD
        order_B = same_for_all(torch.randperm(len(branch_BLD) * ranks(), device=branch_BLD.device))
        return self.keep(branch_BLD, order_B)

    def keep(self, branch_BLD: Tensor, order_B: Tensor) -> Tensor:
        """Keep the branch of the first entries of an order of all processes' rows, at least one; 0 for the others."""
        count = len(order_B)
        kept = max(int(count * (1 - self.rate)), 1)
        factor_B = torch.zeros(count, device=branch_BLD.device, dtype=branch_BLD.dtype)
        factor_B[order_B[:kept]] = count / kept
        return branch_BLD * own_rows(factor_B)[:, None, None]


def drop_by_sample(blocks: Iterable[nn.Module], rate: float) -> None:
    """Leave branches out for each window by itself, from 0 in the first block to `rate` in the last."""
    every = list(blocks)
    for index, block in enumerate(every):
        share = rate * index / max(len(every) - 1, 1)
        block.drop_path1, block.drop_path2 = (SampleDropPath(share) if share else nn.Identity() for _ in range(2))


def drop_by_subset(blocks: Iterable[nn.Module], rate: float) -> None:
    """Leave branches out for a share of the batch, at the same rate in every block."""
    for block in blocks:
        block.drop_path1, block.drop_path2 = (SubsetDropPath(rate) if rate else nn.Identity() for _ in range(2))
