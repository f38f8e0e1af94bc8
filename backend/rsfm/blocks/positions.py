"""Fixed two-dimensional sine and cosine positions of patches, and the resizing of learned ones.

Vaswani et al., 2017, arXiv:1706.03762; in two dimensions as He et al., 2022, arXiv:2111.06377.

Shape letters: L patches (rows x columns, row-major), D width.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def sincos_1d(width: int, position_L: Tensor) -> Tensor:
    """Encode positions as encoded_LD, float64: all sines, then all cosines; `width` is even."""
    index = torch.arange(width // 2, dtype=torch.float64, device=position_L.device)
    frequency = 10000.0 ** (-index / (width / 2))
    angle = position_L.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@lru_cache(maxsize=64)
def sincos_2d(width: int, rows: int, columns: int, class_token: bool = False) -> Tensor:
    """Encode a grid as encoded_LD, float64: the column in the first half of the width, the row in the second.

    Args:
        width: a multiple of 4.
        class_token: put a row of zeros first.
    """
    row_L = torch.arange(rows, device="cpu").repeat_interleave(columns)  # the same for all devices: it is remembered
    column_L = torch.arange(columns, device="cpu").repeat(rows)
    encoded_LD = torch.cat([sincos_1d(width // 2, column_L), sincos_1d(width // 2, row_L)], dim=1)
    return torch.cat([encoded_LD.new_zeros(1, width), encoded_LD]) if class_token else encoded_LD


def grid_positions(stored_1LD: Tensor, side: int, rows: int, columns: int) -> Tensor:
    """Return positions_1LD of a grid, class token first: the stored ones if the grid is theirs, else new ones.

    Args:
        stored_1LD: sine and cosine positions of a square grid of `side`, class token first.
    """
    if (rows, columns) == (side, side):
        return stored_1LD
    return sincos_2d(stored_1LD.shape[2], rows, columns, class_token=True)[None].to(stored_1LD)


def resize_positions(positions_1LD: Tensor, rows: int, columns: int) -> Tensor:
    """Resize learned positions of a square grid, class token first, to another grid; the class token's stay."""
    side = round((positions_1LD.shape[1] - 1) ** 0.5)
    class_11D, grid_1LD = positions_1LD[:, :1], positions_1LD[:, 1:]
    grid_1Dhw = grid_1LD.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid_1Dhw = functional.interpolate(grid_1Dhw, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([class_11D, grid_1Dhw.flatten(2).mT], dim=1)


def scale_positions(positions_1TD: Tensor, grid: tuple[int, int], square: bool, last_tokens: int = 0) -> Tensor:
    """Scale learned positions of a square grid, class token first, as DINO and SatDINO do.

    A tenth of a patch is added to the wanted grid before the scale is computed, and the scale, not the size, gives the
    coordinates: the trained weights of both expect it. SatDINO's scale divides by sqrt(n^2 + 1) in place of n, which
    from a grid of 40 on (of 14 stored) gives a patch too few; there n is taken.

    Args:
        grid: rows and columns wanted.
        square: the window is square; only then are the stored positions of as many patches taken as they are.
        last_tokens: tokens with a position of their own after the patches; 1 for SatDINO, 0 for DINO.
    """
    last = positions_1TD.shape[1] - last_tokens
    class_11D, grid_1LD, last_1TD = positions_1TD[:, :1], positions_1TD[:, 1:last], positions_1TD[:, last:]
    patches = grid_1LD.shape[1]
    side = round(patches**0.5)
    if square and grid[0] * grid[1] == patches:
        return positions_1TD
    divisor = (patches + last_tokens) ** 0.5
    if any(int(side * (cells + 0.1) / divisor) != cells for cells in grid):
        divisor = side
    scale = [(cells + 0.1) / divisor for cells in grid]
    grid_1Dhw = grid_1LD.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid_1Dhw = functional.interpolate(grid_1Dhw, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat([class_11D, grid_1Dhw.flatten(2).mT, last_1TD], dim=1)
