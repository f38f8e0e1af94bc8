"""Batch norm over groups of a batch, as several devices would do it, on one device or several.

A group never spans two processes, unless all rows are one group: then that is the batch of all processes.

Shape letters: B batch, C bands, H rows, W columns, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rsfm.blocks.ranks import average, ranks
from rsfm.blocks.shared_norm import apart


def in_groups(module: nn.Module, forward: Callable[[Tensor], Tensor], pixels_BCHW: Tensor, groups: int) -> Tensor:
    """Run `forward` on each contiguous group of a batch, so that every group has its own batch statistics.

    Running statistics become the mean of what each group of any process alone would have made of them; official runs
    keep those of one device, which differ from this by chance alone.

    Args:
        module: holds the batch norms that `forward` uses.
        groups: of all processes, at most the size of the batch and a multiple of their number; 1 is an ordinary pass.
    """
    if groups == 1:
        return forward(pixels_BCHW)
    groups //= ranks()
    statistics = _running_statistics(module)
    before = [statistic.clone() for statistic in statistics]
    after = [torch.zeros_like(statistic) for statistic in statistics]
    outputs = []
    for group_GCHW in pixels_BCHW.tensor_split(groups):
        _copy(statistics, before)
        with apart():
            outputs.append(forward(group_GCHW))
        for total, statistic in zip(after, statistics, strict=True):
            total += statistic / groups
    _copy(statistics, [average(statistic) for statistic in after])
    return torch.cat(outputs)


def _running_statistics(module: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in module.named_buffers() if name.endswith(("running_mean", "running_var"))]


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.data.copy_(source)  # not seen by autograd, which keeps these buffers but does not read them in training
