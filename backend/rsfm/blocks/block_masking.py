"""Hide rectangles of patches, one after the other, as BEiT does.

Bao et al., 2022, arXiv:2106.08254, algorithm 1.

Shape letters: B batch, h and w rows and columns of patches.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm.blocks.ranks import own_rows, ranks

ATTEMPTS = 10
ASPECT = (0.3, 1 / 0.3)


def hide_blocks(count: int, rows: int, columns: int, wanted: int, smallest: int) -> Tensor:
    """Draw masks hidden_Bhw, True where hidden; at most `wanted` patches each, as often fewer.

    Args:
        smallest: least number of patches of a rectangle, where as many are still wanted.
    """
    seed = int(torch.randint(2**31, ()))  # follows the seed of torch
    mine = own_rows(torch.arange(count * ranks())).tolist()
    masks = [_hide(np.random.default_rng((seed, window)), rows, columns, wanted, smallest) for window in mine]
    return torch.from_numpy(np.stack(masks))


def _hide(random: np.random.Generator, rows: int, columns: int, wanted: int, smallest: int) -> NDArray[np.bool_]:
    hidden_hw = np.zeros((rows, columns), dtype=bool)
    while (left := wanted - int(hidden_hw.sum())) > 0:
        if not _add_rectangle(random, hidden_hw, left, smallest):
            break
    return hidden_hw


def _add_rectangle(random: np.random.Generator, hidden_hw: NDArray[np.bool_], left: int, smallest: int) -> bool:
    """Hide one more rectangle that adds a patch or more, but at most `left`; tell whether one was found."""
    rows, columns = hidden_hw.shape
    low, high = (math.log(aspect) for aspect in ASPECT)
    for _ in range(ATTEMPTS):
        area = smallest + (left - smallest) * random.random()
        aspect = math.exp(low + (high - low) * random.random())
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= rows or width >= columns:
            continue
        top, start = random.integers(rows - height + 1), random.integers(columns - width + 1)
        part_hw = hidden_hw[top : top + height, start : start + width]
        if 0 < np.count_nonzero(~part_hw) <= left:
            part_hw[:] = True
            return True
    return False
