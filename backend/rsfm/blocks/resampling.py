"""Resampling as a band matrix for rows and one for columns, so that every window of a batch has its own.

Shape letters: B batch, C bands, H rows, W columns, N cells of the source along an axis, M cells of the result,
K neighbouring cells of the source that a cell of the result reads, L lines of all bands.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.validity import nothing_missing

Kernel = Literal["bilinear", "bicubic"]
BLOCK = 32
"""Cells of a result that are made together where the matrix is applied in blocks."""
DENSE = 128
"""Cells up to which the whole matrix is faster than its blocks."""
SMALL = 64
"""Cells up to which windows are resampled together, and not one after the other."""
HALF = 0.5 - 1e-4
"""Share of the weight that must be valid: half, whichever way a sum is rounded."""
REACH = 6
"""Deviations of a Gaussian beyond which float32 sees nothing of it."""


class Rectangles(NamedTuple):
    """A rectangle of each window, in whole pixels, and how the result is mirrored."""

    top_B: Tensor
    left_B: Tensor
    height_B: Tensor
    width_B: Tensor
    mirrored_B: Tensor
    upside_down_B: Tensor

    def of(self, piece: slice) -> "Rectangles":
        """Return the rectangles of some of the windows."""
        return Rectangles(*(values_B[piece] for values_B in self))


class Axis(NamedTuple):
    """Which neighbours each cell of the result reads along an axis, with which weights.

    Attributes:
        first_BM: the first of them; cells outside of the source have a weight of 0.
        weights_BMK: they sum to 1.
        source: cells of the source, N.
    """

    first_BM: Tensor
    weights_BMK: Tensor
    source: int

    def mirrored(self, chosen_B: Tensor) -> "Axis":
        """Reverse the result of the chosen windows."""
        return Axis(
            torch.where(chosen_B[:, None], self.first_BM.flip(1), self.first_BM),
            torch.where(chosen_B[:, None, None], self.weights_BMK.flip(1), self.weights_BMK),
            self.source,
        )

    def matrix(self) -> Tensor:
        """Return matrix_BMN."""
        count, cells, reach = self.weights_BMK.shape
        read_BMK = self.first_BM[:, :, None] + torch.arange(reach, device=self.first_BM.device)
        matrix_BMN = self.weights_BMK.new_zeros(count, cells, self.source)
        return matrix_BMN.scatter_add_(2, read_BMK.clamp(0, self.source - 1), self.weights_BMK)


def matrix_axis(matrix_BMN: Tensor) -> Axis:
    """Make an axis of which every cell reads the whole source."""
    first_BM = torch.zeros(matrix_BMN.shape[:2], dtype=torch.int64, device=matrix_BMN.device)
    return Axis(first_BM, matrix_BMN, matrix_BMN.shape[2])


def resize_axis(start_B: Tensor, length_B: Tensor, source: int, target: int, kernel: Kernel) -> Axis:
    """Cut `length` cells from `start` and resize them to `target` cells.

    Antialiased when it shrinks; what lies outside the cut never enters, as if the cut were an image of its own.
    """
    device, radius = start_B.device, 1 if kernel == "bilinear" else 2
    start_B11, length_B11 = (value_B.float()[:, None, None] for value_B in (start_B, length_B))
    scale_B11 = length_B11 / target
    spread_B11 = scale_B11.clamp(min=1)
    centre_BM1 = start_B11 + (torch.arange(target, device=device)[:, None] + 0.5) * scale_B11
    first_BM1 = (centre_BM1 - radius * spread_B11 - 0.5).floor()
    neighbours = math.ceil(2 * radius * max(source / target, 1)) + 2  # for the longest cut: no wait for the device
    cell_BMK = first_BM1 + torch.arange(neighbours, device=device)
    inside_BMK = (cell_BMK >= start_B11) & (cell_BMK < start_B11 + length_B11)
    distance_BMK = (cell_BMK + 0.5 - centre_BM1).abs() / spread_B11
    weights_BMK = (_bilinear(distance_BMK) if kernel == "bilinear" else _bicubic(distance_BMK)) * inside_BMK
    return Axis(first_BM1[:, :, 0].long(), weights_BMK / weights_BMK.sum(2, keepdim=True), source)


def blur_axis(sigma_B: Tensor, cells: int) -> Axis:
    """Blur by a Gaussian with a sigma, in cells, of each window's own; 0 changes nothing."""
    reach = min(math.ceil(REACH * float(sigma_B.max())), cells - 1)
    offset_K = torch.arange(-reach, reach + 1, device=sigma_B.device)
    weights_BK = torch.exp(-0.5 * (offset_K / sigma_B.float().clamp(min=1e-3)[:, None]).square())
    cell_M = torch.arange(cells, device=sigma_B.device)
    read_MK = cell_M[:, None] + offset_K
    weights_BMK = weights_BK[:, None] * ((read_MK >= 0) & (read_MK < cells))
    return Axis((cell_M - reach).expand(len(sigma_B), -1), weights_BMK / weights_BMK.sum(2, keepdim=True), cells)


def resample(pixels_BCHW: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Apply the weights of both axes, in full precision."""
    with torch.autocast(pixels_BCHW.device.type, enabled=False):
        matrix_BMN, across_BNM = rows.matrix(), columns.matrix().mT
        if pixels_BCHW.device.type != "cpu" or max(pixels_BCHW.shape[2:]) <= SMALL:
            return matrix_BMN[:, None] @ (pixels_BCHW @ across_BNM[:, None])
        bands, height, width = pixels_BCHW.shape[1:]
        resampled_BCMM = pixels_BCHW.new_empty(len(pixels_BCHW), bands, matrix_BMN.shape[1], across_BNM.shape[2])
        for window, out_CMM in enumerate(resampled_BCMM):  # products of a batch are slow in a thread of a piece
            lines_LN = pixels_BCHW[window].reshape(bands * height, width)
            wide_LM = lines_LN.new_empty(bands * height, out_CMM.shape[2])
            for made, read in _blocks(columns, window):
                torch.mm(lines_LN[:, read], across_BNM[window, read, made], out=wide_LM[:, made])
            wide_CHM = wide_LM.view(bands, height, -1)
            for made, read in _blocks(rows, window):
                out_CMM[:, made] = matrix_BMN[window, made, read] @ wide_CHM[:, read]
        return resampled_BCMM


def resample_valid(pixels_BCHW: Tensor, valid_BHW: Tensor, rows: Axis, columns: Axis) -> tuple[Tensor, Tensor]:
    """Resample valid pixels alone: nodata lends nothing to its neighbours.

    Returns:
        pixels_BCHW: 0 where invalid.
        valid_BHW: True where at least half of the weight is valid.
    """
    return _valid_alone(lambda values_BCHW: resample(values_BCHW, rows, columns), pixels_BCHW, valid_BHW)


def resize_valid(
    pixels_BCHW: Tensor, valid_BHW: Tensor, place: Rectangles, size: tuple[int, int], kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """Cut rectangles and resize them to `size`, by valid pixels alone; returns what `resample_valid` does.

    Large windows on a processor are cut one by one, which spares what lies outside of the rectangles; the matrices of
    `resize_axis` give the same.
    """
    source = pixels_BCHW.shape[2:]
    if pixels_BCHW.device.type == "cpu" and max(*source, *size) > SMALL:
        return _valid_alone(lambda values_BCHW: _resize_each(values_BCHW, place, size, kernel), pixels_BCHW, valid_BHW)
    rows = resize_axis(place.top_B, place.height_B, source[0], size[0], kernel).mirrored(place.upside_down_B)
    columns = resize_axis(place.left_B, place.width_B, source[1], size[1], kernel).mirrored(place.mirrored_B)
    return resample_valid(pixels_BCHW, valid_BHW, rows, columns)


def _resize_each(pixels_BCHW: Tensor, place: Rectangles, size: tuple[int, int], kernel: Kernel) -> Tensor:
    resized = []
    numbers = zip(*(values_B.tolist() for values_B in place), strict=True)
    for window, (top, left, height, width, mirrored, upside_down) in enumerate(numbers):
        rows, columns = slice(int(top), int(top + height)), slice(int(left), int(left + width))
        cut_1CHW = pixels_BCHW[window : window + 1, :, rows, columns]
        resized_1CSS = functional.interpolate(cut_1CHW, size=size, mode=kernel, antialias=True)
        turned = [axis for axis, chosen in ((2, upside_down), (3, mirrored)) if chosen]
        resized.append(resized_1CSS.flip(turned) if turned else resized_1CSS)
    return resized[0] if len(resized) == 1 else torch.cat(resized)


def _valid_alone(
    resampled: Callable[[Tensor], Tensor], pixels_BCHW: Tensor, valid_BHW: Tensor
) -> tuple[Tensor, Tensor]:
    if nothing_missing(valid_BHW):
        resampled_BCHW = resampled(pixels_BCHW)
        return resampled_BCHW, torch.ones_like(resampled_BCHW[:, 0], dtype=torch.bool)
    weight_B1HW = resampled(valid_BHW[:, None].to(pixels_BCHW.dtype))
    sum_BCHW = resampled(pixels_BCHW * valid_BHW[:, None])
    valid_B1HW = weight_B1HW >= HALF
    return torch.where(valid_B1HW, sum_BCHW / weight_B1HW.clamp(min=HALF), 0), valid_B1HW[:, 0]


def _blocks(axis: Axis, window: int) -> Iterator[tuple[slice, slice]]:
    """Give the blocks of cells of a window's result, and what of the source each of them reads."""
    cells, reach = axis.weights_BMK.shape[1:]
    if max(cells, axis.source) <= DENSE:
        yield slice(0, cells), slice(0, axis.source)
        return
    first_M = axis.first_BM[window].tolist()
    for start in range(0, len(first_M), BLOCK):
        made = slice(start, min(start + BLOCK, len(first_M)))
        low, high = sorted((first_M[made.start], first_M[made.stop - 1]))
        yield made, slice(min(max(low, 0), axis.source - 1), max(min(high + reach, axis.source), 1))


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
