"""Resampling as two small matrices, one for rows and one for columns, so that every window of a batch has its own.

Shape letters: B batch, C bands, H rows, W columns, N cells of the source along an axis, M cells of the result.
"""

from typing import Literal

import torch
from torch import Tensor

Kernel = Literal["bilinear", "bicubic"]


def resize_weights(start_B: Tensor, length_B: Tensor, source: int, target: int, kernel: Kernel) -> Tensor:
    """Make weights_BMN that cut `length` cells from `start` and resize them to `target` cells.

    Antialiased when it shrinks; what lies outside the cut never enters, as if the cut were an image of its own.
    """
    device = start_B.device
    start_B, length_B = start_B.float(), length_B.float()
    scale_B11 = (length_B / target)[:, None, None]
    centre_BM1 = start_B[:, None, None] + (torch.arange(target, device=device)[None, :, None] + 0.5) * scale_B11
    cell_N = torch.arange(source, device=device) + 0.5
    inside_B1N = (cell_N >= start_B[:, None, None]) & (cell_N <= (start_B + length_B)[:, None, None])
    distance_BMN = (cell_N - centre_BM1).abs() / scale_B11.clamp(min=1)
    weights_BMN = (_bilinear(distance_BMN) if kernel == "bilinear" else _bicubic(distance_BMN)) * inside_B1N
    return weights_BMN / weights_BMN.sum(2, keepdim=True)


def blur_weights(sigma_B: Tensor, cells: int) -> Tensor:
    """Make weights_BNN of a Gaussian blur with a sigma, in cells, of each window's own; 0 changes nothing."""
    cell_N = torch.arange(cells, device=sigma_B.device, dtype=torch.float32)
    distance_NN = cell_N[:, None] - cell_N[None, :]
    weights_BNN = torch.exp(-0.5 * (distance_NN / sigma_B.float().clamp(min=1e-3)[:, None, None]).square())
    return weights_BNN / weights_BNN.sum(2, keepdim=True)


def resample(pixels_BCHW: Tensor, rows_BMN: Tensor, columns_BMN: Tensor) -> Tensor:
    """Apply the weights of both axes."""
    wide_BCMW = rows_BMN[:, None] @ pixels_BCHW
    return wide_BCMW @ columns_BMN[:, None].mT


def resample_valid(
    pixels_BCHW: Tensor, valid_BHW: Tensor, rows_BMN: Tensor, columns_BMN: Tensor
) -> tuple[Tensor, Tensor]:
    """Resample valid pixels alone: nodata lends nothing to its neighbours.

    Returns:
        pixels_BCHW: 0 where invalid.
        valid_BHW: True where at least half of the weight is valid.
    """
    weight_B1HW = resample(valid_BHW[:, None].to(pixels_BCHW.dtype), rows_BMN, columns_BMN)
    sum_BCHW = resample(pixels_BCHW * valid_BHW[:, None], rows_BMN, columns_BMN)
    valid_B1HW = weight_B1HW >= 0.5
    return torch.where(valid_B1HW, sum_BCHW / weight_B1HW.clamp(min=0.5), 0), valid_B1HW[:, 0]


def _bilinear(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _bicubic(distance: Tensor) -> Tensor:
    """Cubic convolution with a = -0.5 (Keys, 1981)."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0))


def mirrored_blur_weights(sigma: float, cells: int, reach: int) -> Tensor:
    """Make weights_NN of a Gaussian blur that reads `reach` cells to each side, mirrored at the first and last cell.

    As OpenCV blurs, which SSL4EO-S12 uses: with its automatic size the reach is `opencv_reach`.
    """
    offset_K = torch.arange(-reach, reach + 1)
    weight_K = torch.exp(-0.5 * (offset_K / sigma).square())
    place_NK = torch.arange(cells)[:, None] + offset_K
    period = max(2 * (cells - 1), 1)
    folded_NK = (place_NK % period + period) % period
    folded_NK = torch.where(folded_NK < cells, folded_NK, period - folded_NK)
    empty_NN = torch.zeros(cells, cells)
    return empty_NN.scatter_add(1, folded_NK, (weight_K / weight_K.sum()).expand(cells, -1))


def opencv_reach(sigma: float, eight_bit: bool) -> int:
    """Return how far OpenCV's blur reads: three deviations for 8-bit windows, four for floats, and its rounding."""
    return (round(sigma * (6 if eight_bit else 8) + 1) | 1) // 2
