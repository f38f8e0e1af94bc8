"""Scales both dates by medians and percentiles of the whole overlap, whatever part of it is looked at.

Shape letters: C bands, H rows, W columns, N pixels.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair

MOST_CELLS, CELL_SIDE = 16, 256
"""The overlap is cut into at most so many cells a side, and the middle of each is read, so many pixels a side: all of a
raster up to 4,096 pixels a side, and the same amount of any larger one."""
SAMPLE_PIXELS = 2**20
FEWEST = 20
"""Valid pixels below which nothing can be measured."""


class Scaling(NamedTuple):
    """Median and half of the distance between the 2nd and the 98th percentile, of each band of a date."""

    centre_C: np.ndarray
    spread_C: np.ndarray

    def apply(self, pixels_CHW: np.ndarray) -> np.ndarray:
        """Scale pixels in place, float32."""
        shape = (-1, *[1] * (pixels_CHW.ndim - 1))
        pixels_CHW -= self.centre_C.reshape(shape)
        pixels_CHW *= (1 / self.spread_C).astype(np.float32).reshape(shape)
        return pixels_CHW


def fit_scaling(pixels_CN: np.ndarray) -> Scaling:
    """Measure a date; a band that hardly changes keeps its own deviation, a constant one is 0 everywhere."""
    low_C, centre_C, high_C = np.percentile(pixels_CN, [2, 50, 98], axis=1).astype(np.float32)
    spread_C = (high_C - low_C) / 2
    deviation_C = pixels_CN.std(axis=1, dtype=np.float64).astype(np.float32)
    spread_C = np.where(spread_C > 0, spread_C, np.where(deviation_C > 0, deviation_C, 1))
    return Scaling(centre_C, spread_C.astype(np.float32))


def measure_scaling(pair: Pair, check: Callable[[], None] = lambda: None) -> tuple[Scaling, Scaling]:
    """Measure both dates.

    Args:
        check: is called often, and may raise to end the work.

    Raises:
        UserError: too few pixels are valid on both dates.
    """
    cells = middles(pair.window, CELL_SIDE)
    step = max(1, math.ceil(math.sqrt(sum(cell.height * cell.width for cell in cells) / SAMPLE_PIXELS)))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for cell in cells:
        check()
        before_CHW, after_CHW, valid_HW = pair.read(cell)
        rows, columns = (
            slice(-(first - origin) % step, None, step)
            for first, origin in ((cell.row, pair.window.row), (cell.column, pair.window.column))
        )
        kept = valid_HW[rows, columns]
        found.append((before_CHW[:, rows, columns][:, kept], after_CHW[:, rows, columns][:, kept]))
    before_CN, after_CN = (np.concatenate(pixels, axis=1) for pixels in zip(*found, strict=True))
    if before_CN.shape[1] < FEWEST:
        raise UserError(
            f"'{pair.before.name}' and '{pair.after.name}' have hardly a pixel that is valid on both dates. Choose "
            "rasters whose imagery, not only whose outlines, covers the same place, under 'Before' and 'After'.",
            "after",
        )
    return fit_scaling(before_CN), fit_scaling(after_CN)


def middles(window: Window, side: int) -> list[Window]:
    """Return what stands for a window: the middle of each of its cells, from top to bottom."""
    rows, columns = _middles(window.row, window.height, side), _middles(window.column, window.width, side)
    return [Window(row, column, height, width) for row, height in rows for column, width in columns]


def _middles(start: int, size: int, side: int) -> list[tuple[int, int]]:
    cells = min(MOST_CELLS, -(-size // side))
    edges = [start + size * cell // cells for cell in range(cells + 1)]
    lengths = [(first, min(end - first, side), end) for first, end in pairwise(edges)]
    return [(first + (end - first - length) // 2, length) for first, length, end in lengths if length]
