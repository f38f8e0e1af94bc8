"""The order in which the windows of an epoch are read, so that those that share blocks come together.

Windows of rasters larger than memory, read in any order, decode their blocks many times. Here regions of rasters come
in random order, the windows of a region follow each other from top to bottom, and as many windows as are read ahead are
shuffled: a batch mixes what lies in them. Every window comes once, whatever the order.

Shape letters: N windows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster

REGION = 4096
"""Pixels a side of a region. Smaller ones mix a batch better, but what lies at their edges is decoded twice: with 512
windows ahead and blocks of 512 px it is 1.27 times the raster, 1.46 times with half the side, 6.8 in any order."""
LOWEST_REGION = 2048
"""Pixels of height where blocks are strips, and a region is as wide as they are."""


def mixed_order(places: Sequence[tuple[Raster, Window]], ahead: int, seed: int) -> NDArray[np.intp]:
    """Return the indices of windows in the order to read them, the same for the same seed.

    Args:
        ahead: windows that are read together.
    """
    random = np.random.default_rng(seed)
    sides = {raster: _region(raster) for raster in dict.fromkeys(raster for raster, _ in places)}
    numbers = {raster: number for number, raster in enumerate(sides)}
    keys = [
        (numbers[raster], window.row // sides[raster][0], window.column // sides[raster][1])
        for raster, window in places
    ]
    if not keys:
        return np.empty(0, np.intp)
    regions, region_N = np.unique(keys, axis=0, return_inverse=True)
    rank_N = random.permutation(len(regions))[region_N.ravel()]
    row_N = np.array([window.row for _, window in places])
    order_N = np.lexsort((row_N, rank_N))  # a region cut in two shares one row of cells
    for first in range(0, len(order_N), ahead):
        order_N[first : first + ahead] = random.permutation(order_N[first : first + ahead])
    return order_N


def _region(raster: Raster) -> tuple[int, int]:
    """Return height and width of the regions of a raster."""
    cells = raster.cells()
    width = max(REGION, cells.window(0, 0).width if cells else 0)
    return max(LOWEST_REGION, REGION**2 // width), width
