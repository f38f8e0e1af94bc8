"""Hide some cells inside some patches, so that small objects leave traces (PIMask).

Sun et al., 2023, "RingMo: A Remote Sensing Foundation Model With Masked Image Modeling", IEEE TGRS 61. Their
code is not public: share of patches, share of cells and the size of a cell are parameters here.

Shape letters: B batch, H rows, W columns, L patches, M patches chosen, N cells of a patch.
"""

import torch
from torch import Tensor

from rsfm.blocks.ranks import own_rows, ranks

CELLS = 4
"""Cells along the side of a patch, at most one a pixel."""


def draw_hidden(
    count: int, rows: int, columns: int, patch_size: int, patches: float, cells: float, device: torch.device
) -> Tensor:
    """Choose patches of each window, and cells of each of these, hidden_BHW.

    Args:
        patches: share of the patches that are chosen, truncated to whole ones but one at least.
        cells: share of the cells of a chosen patch that are hidden, likewise.
    """
    side = cells_along(patch_size)
    chosen, hidden = max(1, int(rows * columns * patches)), max(1, int(side**2 * cells))
    chosen_BL = _least(torch.rand(count * ranks(), rows * columns, device=device), chosen)
    hidden_BLN = _least(torch.rand(count * ranks(), rows * columns, side**2, device=device), hidden)
    both_BLN = own_rows(chosen_BL[:, :, None] & hidden_BLN)
    cut = both_BLN.reshape(count, rows, columns, side, side).permute(0, 1, 3, 2, 4)
    cell = patch_size // side
    return cut.reshape(count, rows * side, columns * side).repeat_interleave(cell, 1).repeat_interleave(cell, 2)


def cells_along(patch_size: int) -> int:
    """Tell how many cells lie along the side of a patch: four, or fewer where four do not divide it."""
    return next(side for side in range(min(CELLS, patch_size), 0, -1) if patch_size % side == 0)


def _least(noise: Tensor, count: int) -> Tensor:
    """Mark the `count` least of the last dimension."""
    marked = torch.zeros_like(noise, dtype=torch.bool)
    return marked.scatter(-1, noise.argsort(dim=-1, stable=True)[..., :count], True)
