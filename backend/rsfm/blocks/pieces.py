"""Work on a batch piece by piece, every piece small enough for the cache of a processor, on all cores at once.

Operations on a whole batch of large views go through memory each time, and the threads of one operation wait for each
other at its end; pieces do neither. Much smaller ones would have the threads wait for the interpreter, which starts
one operation at a time. A GPU takes the whole batch at once.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, local
from typing import Any

import torch

PIECE, SMALLEST = 2**20, 2**18
"""Values of a piece; what would be less than `FEW` pieces is cut smaller, as far as the second number."""
FEW = 4
_here = local()
"""Tells a thread of the pool that it is one."""


def split(count: int, values: int, device: torch.device) -> list[slice]:
    """Split a batch into pieces of nearly the same size; a piece that a thread works on already stays whole.

    Args:
        values: of one element of the batch.
    """
    if _in_pool():
        return [slice(0, count)] if count else []
    most = max(PIECE // max(values, 1), 1) if device.type == "cpu" else max(count, 1)
    parts = max(math.ceil(count / most), min(FEW, count, math.ceil(count * values / SMALLEST)))
    parts = parts if device.type == "cpu" else min(count, 1)
    return [slice(part * count // parts, (part + 1) * count // parts) for part in range(parts)]


def in_threads(work: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
    """Call `work` with the arguments of each task; it draws nothing at random, since the tasks run side by side.

    A task that itself calls this does its own tasks one by one: threads that wait for each other would wait for ever.
    """
    threads, grad = 1 if _in_pool() else torch.get_num_threads(), torch.is_grad_enabled()

    def run(task: tuple[Any, ...]) -> None:
        with torch.set_grad_enabled(grad):
            work(*task)

    if min(threads, len(tasks)) < 2:
        for task in tasks:
            work(*task)
    else:
        deque(_pool(threads).map(run, tasks), maxlen=0)


def threads_alone(threads: int, name: str, begin: Callable[[], None] = lambda: None) -> ThreadPoolExecutor:
    """Start threads of which each runs its operations alone, and let later threads run theirs as this one does.

    A thread that shared its operations would have helpers of its own, beside those of the step: more than cores.

    Args:
        begin: what each thread calls at first.
    """
    own = torch.get_num_threads()

    def join() -> None:
        torch.get_num_threads()  # at its first operation a thread takes the number that all have: let it be taken now
        torch.set_num_threads(1)
        begin()

    pool = ThreadPoolExecutor(threads, name, initializer=join)
    started = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(own)
    return pool


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return threads_alone(threads, "pieces", _join_pool)


def _in_pool() -> bool:
    return getattr(_here, "in_pool", False)


def _join_pool() -> None:
    _here.in_pool = True
