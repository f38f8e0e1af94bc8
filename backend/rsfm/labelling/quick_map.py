"""Draws classes of cached features: what is there at once, all blocks side by side on the cores of the machine.

Shape letters: D features, K classes, N cells, H rows, W columns of pixels, h and w of cells.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch.nn import functional

from rsfm.labelling.feature_cache import Block, FeatureCache
from rsfm.labelling.learners import Learner
from rsfm.outputs.classes import Classes
from rsfm.raster.grid import Window
from rsfm.raster.largest import find_largest

Part = TypeVar("Part")
STRIP = 64
"""Rows of cells that are brought to the resolution of pixels at once."""
THREADS = min(os.cpu_count() or 1, 8)


def draw(
    cache: FeatureCache, window: Window, learner: Learner, step: int = 1, go_on: Callable[[], bool] = lambda: True
) -> NDArray[np.uint8] | None:
    """Return the classes of a window, from 1; nodata where invalid or not computed yet.

    Args:
        step: only each so-many-th pixel is asked for, and its neighbours are drawn like it; where cells are larger
            than pixels all of them are.
        go_on: asked at every block.

    Returns:
        class_HW; None if it was not to go on.
    """
    if cache.stride > 1:
        return _draw_cells(cache, window, learner, go_on)
    class_HW = np.full((window.height, window.width), Classes.nodata, np.uint8)

    def put(block: Block) -> None:
        if go_on():
            row, column = block.window.row - window.row, block.window.column - window.column
            height, width = block.window.height, block.window.width
            found_HW = _classify(block, learner, step)
            class_HW[row : row + height, column : column + width] = found_HW

    _each(put, cache.blocks(window))
    return class_HW if go_on() else None


def values_of(block: Block, learner: Learner, step: int = 1) -> NDArray[np.float32]:
    """Return values_Khw of the cells of a block, or of the middle one of each `step`."""
    picked_Dhw = block.features_Dhw[:, step // 2 :: step, step // 2 :: step]
    values_KN = learner.values(picked_Dhw.reshape(len(picked_Dhw), -1).astype(np.float32))
    return values_KN.reshape(len(values_KN), *picked_Dhw.shape[1:])


def _classify(block: Block, learner: Learner, step: int) -> NDArray[np.uint8]:
    height, width = block.valid_HW.shape
    if step > 1 and min(height, width) <= step // 2:
        step = 1
    values_Khw = values_of(block, learner, step)
    if step == 1:
        return find_largest(values_Khw, block.valid_HW, Classes.nodata)[0]
    small_hw = find_largest(values_Khw, np.ones(values_Khw.shape[1:], bool), Classes.nodata)[0]
    large_HW = small_hw.repeat(step, axis=0).repeat(step, axis=1)
    beyond = ((0, max(height - large_HW.shape[0], 0)), (0, max(width - large_HW.shape[1], 0)))
    class_HW = np.pad(large_HW, beyond, mode="edge")[:height, :width]
    return np.where(block.valid_HW, class_HW, np.uint8(Classes.nodata))


def _draw_cells(
    cache: FeatureCache, window: Window, learner: Learner, go_on: Callable[[], bool]
) -> NDArray[np.uint8] | None:
    """Draw values of cells, bilinear between their centres."""
    cells, blocks = window.cells(cache.stride), cache.blocks(window)
    class_HW = np.full((window.height, window.width), Classes.nodata, np.uint8)
    if not blocks:
        return class_HW
    valid_HW = np.zeros(class_HW.shape, bool)
    first_Khw = values_of(blocks[0], learner)
    values_Khw = np.zeros((len(first_Khw), cells.height, cells.width), np.float32)

    def put(block: Block) -> None:
        if go_on():
            own = block.window.cells(cache.stride)
            row, column = own.row - cells.row, own.column - cells.column
            values_Khw[:, row : row + own.height, column : column + own.width] = values_of(block, learner)
            row, column = block.window.row - window.row, block.window.column - window.column
            valid_HW[row : row + block.window.height, column : column + block.window.width] = block.valid_HW

    _each(put, blocks)

    def enlarge(first: int) -> None:
        top, end = max(first - 1, 0), min(first + STRIP + 1, cells.height)
        part_Khw = torch.from_numpy(values_Khw[:, top:end])
        size = ((end - top) * cache.stride, cells.width * cache.stride)
        large_KHW = functional.interpolate(part_Khw[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
        row = first * cache.stride
        rows_HW = valid_HW[row : row + STRIP * cache.stride]
        skipped = (first - top) * cache.stride
        wanted_KHW = large_KHW[:, skipped : skipped + len(rows_HW), : window.width]
        class_HW[row : row + len(rows_HW)] = find_largest(wanted_KHW, rows_HW, Classes.nodata)[0]

    if go_on():
        _each(enlarge, list(range(0, cells.height, STRIP)))
    return class_HW if go_on() else None


def _each(work: Callable[[Part], None], parts: list[Part]) -> None:
    """Do something with each part, several at a time."""
    with threadpool_limits(1), ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(work, parts):
            pass
