"""Deals blocks of ground to what a detector learns from and what it is judged by.

Shape letters: N boxes, G blocks, K classes, h and w rows and columns of blocks, H and W of pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.blocks import Block
from rsfm.raster.boxes import Boxes, centres
from rsfm.raster.grid import Grid, Window

SHARE = 0.25
"""Of the boxes, held out."""
BLOCKS_A_SIDE = 6
"""A raster is cut in about this many blocks a side, if the boxes are small enough."""
BOXES_A_SIDE = 2
"""A block is at least this many times as long as the largest box."""
TRIES = 200


class BoxSplit(NamedTuple):
    """The blocks of a raster, counted from its pixel (0, 0), and which of them are held out.

    Attributes:
        side: of a block, in pixels.
    """

    side: int
    test_hw: NDArray[np.bool_]

    def holds_out(self, boxes_N: Boxes) -> NDArray[np.bool_]:
        """Tell which boxes have their centre in a block that is held out."""
        row_N, column_N = centres(boxes_N)
        return self._at((row_N // self.side).astype(int), (column_N // self.side).astype(int))

    def held_out(self, window: Window) -> NDArray[np.bool_]:
        """Tell which pixels of a window, which may pass the raster's edge, are held out."""
        rows_H = np.arange(window.row, window.row + window.height) // self.side
        columns_W = np.arange(window.column, window.column + window.width) // self.side
        return self._at(rows_H[:, None], columns_W)

    def blocks(self, grid: Grid) -> tuple[Block, ...]:
        """Return the blocks, for drawing."""
        return tuple(
            Block(
                Window(row * self.side, column * self.side, self.side, self.side).intersection(grid.window),
                "test" if test else "train",
            )
            for (row, column), test in np.ndenumerate(self.test_hw)
        )

    def _at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        height, width = self.test_hw.shape
        on = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return np.asarray(on & self.test_hw[rows.clip(0, height - 1), columns.clip(0, width - 1)])


def split_boxes(
    rasters: Sequence[Boxes], grids: Sequence[Grid], classes: int, block_m: float, seed: int
) -> tuple[tuple[BoxSplit, ...], str]:
    """Hold out blocks with about a quarter of the boxes of each class, and of the ground without any.

    Every class stays among those that are learned.

    Args:
        rasters: the boxes of each.
        block_m: side of a block in metres; 0 chooses it.

    Returns:
        The split of each raster, and a sentence about it.
    """
    sides = [_side(boxes_N, grid, block_m) for boxes_N, grid in zip(rasters, grids, strict=True)]
    counts, keys = [], []
    for index, (boxes_N, grid, side) in enumerate(zip(rasters, grids, sides, strict=True)):
        counts_hwK = np.zeros((-(-grid.height // side), -(-grid.width // side), classes))
        row_N, column_N = centres(boxes_N)
        np.add.at(counts_hwK, ((row_N // side).astype(int), (column_N // side).astype(int), boxes_N["value"] - 1), 1)
        for row, column in np.ndindex(counts_hwK.shape[:2]):
            counts.append(counts_hwK[row, column])
            keys.append((index, row, column))
    test_G = deal(np.array(counts), seed)
    splits = [
        BoxSplit(side, np.zeros((-(-grid.height // side), -(-grid.width // side)), bool))
        for grid, side in zip(grids, sides, strict=True)
    ]
    for (index, row, column), test in zip(keys, test_G, strict=True):
        splits[index].test_hw[row, column] = test
    if not test_G.any():
        return tuple(splits), "The boxes lie too close together to hold some out, so there is no score. Draw more."
    held = int(np.array(counts)[test_G].sum())
    metres = sorted({f"{side * grid.gsd:.3g}" for side, grid in zip(sides, grids, strict=True)}, key=float)
    return tuple(splits), (
        f"The score comes from {int(test_G.sum())} of {len(test_G)} blocks of {' or '.join(metres)} m, with {held} of "
        f"{int(np.array(counts).sum())} boxes, that were held out."
    )


def _side(boxes_N: Boxes, grid: Grid, block_m: float) -> int:
    if block_m:
        return int(np.clip(round(block_m / grid.gsd), 1, max(grid.height, grid.width)))
    longest = [boxes_N["right"] - boxes_N["left"], boxes_N["bottom"] - boxes_N["top"], np.zeros(1)]
    return max(
        BOXES_A_SIDE * int(np.ceil(np.concatenate(longest).max())), max(grid.height, grid.width) // BLOCKS_A_SIDE
    )


def deal(counts_GK: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Return which blocks are held out, from the most even of many deals; none if a class would have none to learn."""
    random = np.random.default_rng(seed)
    total_K = counts_GK.sum(0)
    full_G = np.flatnonzero(counts_GK.sum(1))
    empty_G = np.flatnonzero(counts_GK.sum(1) == 0)
    best_G, best = np.zeros(len(counts_GK), bool), np.inf
    for _ in range(TRIES):
        order_G = random.permutation(full_G)
        reached_G = counts_GK[order_G].sum(1).cumsum()
        many = int(np.searchsorted(reached_G, SHARE * reached_G[-1])) + 1
        test_G = np.zeros(len(counts_GK), bool)
        test_G[order_G[:many]] = True
        test_K = counts_GK[test_G].sum(0)
        if (test_K < total_K)[total_K > 0].all():
            unevenness = float(np.abs(test_K / np.maximum(total_K, 1) - SHARE).sum())
            if unevenness < best:
                best_G, best = test_G, unevenness
    if best_G.any():
        best_G[random.permutation(empty_G)[: round(SHARE * len(empty_G))]] = True
    return best_G
