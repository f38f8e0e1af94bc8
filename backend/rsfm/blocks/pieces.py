"""Work on a batch piece by piece, every piece small enough for the cache of a core, on all cores at once.

Operations on a whole batch of large views go through memory each time, and the threads of one operation wait for each
other at its end; pieces do neither. A GPU takes the whole batch at once.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import torch

PIECE = 2**18
"""Values of a piece."""


def split(count: int, values: int, device: torch.device) -> list[slice]:
    """Split a batch into pieces.

    Args:
        values: of one element of the batch.
    """
    size = max(PIECE // max(values, 1), 1) if device.type == "cpu" else max(count, 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def in_threads(work: Callable[[slice], None], pieces: Sequence[slice]) -> None:
    """Call `work` for all pieces; it draws nothing at random, since they run side by side."""
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()

    def run(piece: slice) -> None:
        with torch.set_grad_enabled(grad):
            work(piece)

    if min(threads, len(pieces)) < 2:
        for piece in pieces:
            work(piece)
    else:
        deque(_pool(threads).map(run, pieces), maxlen=0)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Start threads of which each runs its operations alone, and let later threads run theirs as this one does."""
    pool = ThreadPoolExecutor(threads, "pieces", initializer=torch.set_num_threads, initargs=(1,))
    started = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(threads)
    return pool
