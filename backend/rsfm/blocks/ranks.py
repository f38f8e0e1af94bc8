"""What the processes of one training tell each other, so that together they compute what one process would.

A batch is shared out in contiguous rows, as many to each process. Gradients are averaged over the processes, so the
loss of a process is its share of the loss of the whole batch, times the number of processes: the mean of all is the
loss of the batch. Random numbers are drawn for the whole batch by every process, of which each takes its rows; so all
generators stay alike. Alone, nothing is exchanged and nothing is scaled.

Shape letters: N rows, D features, R processes, V views, B windows of a process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

_WINDOWS: list[int] = []
"""Windows of the batch at hand that this process has; nothing before the first batch."""
_REHEARSING: list[bool] = [False]


def ranks() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if ranks() > 1 else 0


@contextmanager
def rehearsing() -> Iterator[None]:
    """Compute inside as if all processes brought what this one brings, without waiting for them."""
    before, _REHEARSING[0] = _REHEARSING[0], True
    try:
        yield
    finally:
        _REHEARSING[0] = before


def begin_batch(windows: int) -> None:
    """Tell how many windows of the next batch this process has, which `own_rows` counts by."""
    _WINDOWS[:] = [windows]


def own_rows(drawn: Tensor, dim: int = 0) -> Tensor:
    """Take the rows of this process from what was drawn for `ranks()` times as many.

    Where there are several views of a window, all windows of the first view come first, then those of the next.
    """
    count = ranks()
    if count == 1:
        return drawn
    mine = drawn.shape[dim] // count
    windows = _WINDOWS[0] if _WINDOWS and mine % _WINDOWS[0] == 0 else mine
    shape = drawn.shape[:dim], (-1, count, windows), drawn.shape[dim + 1 :]
    return drawn.reshape(sum(shape, ())).select(dim + 1, rank()).flatten(dim, dim + 1)


@torch.no_grad()
def gather_rows(rows_ND: Tensor) -> Tensor:
    """Stack the rows of all processes in the order of their ranks, the same on each; alone, return the rows.

    All processes must bring the same number of rows. No gradient passes.
    """
    if ranks() == 1:
        return rows_ND
    if _REHEARSING[0]:
        return torch.cat([rows_ND] * ranks())
    rows_ND = rows_ND.contiguous()
    parts = [torch.empty_like(rows_ND) for _ in range(ranks())]
    distributed.all_gather(parts, rows_ND)
    return torch.cat(parts)


def gather_with_gradient(rows_ND: Tensor) -> Tensor:
    """Do what `gather_rows` does, and let the gradients of all processes pass back to each row."""
    return rows_ND if ranks() == 1 else _Gather.apply(rows_ND)


@torch.no_grad()
def total(values: Tensor) -> Tensor:
    """Add up a tensor over the processes; no gradient passes."""
    if ranks() == 1:
        return values
    if _REHEARSING[0]:
        return values * ranks()
    summed = values.clone()
    distributed.all_reduce(summed)
    return summed


def most(values: Tensor) -> Tensor:
    """Return the largest of each value over the processes."""
    if ranks() == 1 or _REHEARSING[0]:
        return values
    found = values.clone()
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found


def average(values: Tensor) -> Tensor:
    """Average a tensor over the processes; no gradient passes."""
    return values if ranks() == 1 else total(values) / ranks()


def mean_of_all(sums: Tensor, counts: Tensor) -> Tensor:
    """Return this process's share of the mean over what all processes have counted; 0 where nothing is counted.

    Args:
        sums: of the values counted here, with their gradient.
        counts: how many, or how much weight, they are.
    """
    return sums / total(counts).clamp(min=1) * ranks() if ranks() > 1 else sums / counts.clamp(min=1)


def same_for_all(values: Tensor) -> Tensor:
    """Return the first process's values."""
    if ranks() > 1 and not _REHEARSING[0]:
        distributed.broadcast(values, 0)
    return values


class _Gather(torch.autograd.Function):
    """Gathers rows; backwards, every row gets the sum of what the processes make of it."""

    @staticmethod
    def forward(context: object, rows_ND: Tensor) -> Tensor:
        return gather_rows(rows_ND)

    @staticmethod
    def backward(context: object, gradient_ND: Tensor) -> Tensor:
        return total(gradient_ND).chunk(ranks())[rank()]
