"""Batch norm over the batch of all processes, on any device, as one process would do it.

Ioffe and Szegedy, 2015, "Batch Normalization", arXiv:1502.03167. Every process has as many windows as every other.

Shape letters: B batch, C channels, H rows, W columns, R processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rsfm.blocks.ranks import gather_with_gradient, ranks

_APART: list[bool] = [False]


@contextmanager
def apart() -> Iterator[None]:
    """Let each process normalise its rows by their own statistics."""
    before, _APART[0] = _APART[0], True
    try:
        yield
    finally:
        _APART[0] = before


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm that while training takes its statistics over the rows of all processes."""

    def forward(self, features_BCHW: Tensor) -> Tensor:
        if ranks() == 1 or _APART[0] or not self.training:
            return super().forward(features_BCHW)
        with torch.autocast(features_BCHW.device.type, enabled=False):
            exact_BCHW = features_BCHW.to(self.weight.dtype)
            mean_C, variance_C = _statistics(exact_BCHW)
            self._remember(mean_C.detach(), variance_C.detach(), ranks() * features_BCHW[:, 0].numel())
            scale_C = self.weight * (variance_C + self.eps).rsqrt()
            shift_C = self.bias - mean_C * scale_C
            normal_BCHW = exact_BCHW * scale_C[:, None, None] + shift_C[:, None, None]
        return normal_BCHW.to(features_BCHW.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor, count: int) -> None:
        """Move the running statistics, of the unbiased variance, towards those of a batch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(variance_C * count / max(count - 1, 1), share)


def share_batch_norms(module: nn.Module) -> None:
    """Turn every batch norm of a module into one over all processes, in place; parameters and buffers stay."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SharedBatchNorm


def _statistics(features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel over all processes."""
    variance_C, mean_C = torch.var_mean(features_BCHW, (0, 2, 3), correction=0)
    found_R2C = gather_with_gradient(torch.stack([mean_C, variance_C])[None])
    mean_RC, variance_RC = found_R2C.unbind(1)
    whole_C = mean_RC.mean(0)
    return whole_C, (variance_RC + (mean_RC - whole_C).square()).mean(0)
