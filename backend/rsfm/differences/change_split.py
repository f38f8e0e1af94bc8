"""What of drawn changes is learned from, and what they are judged by: blocks of ground, and polygons that stay whole.

Shape letters: F polygons, G blocks, K classes (0 is no change), H rows, W columns.
"""

from typing import Literal, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from rsfm.differences.change_labels import IGNORED, UNCHANGED, ChangeLabels, Polygons
from rsfm.raster.blocks import GAP
from rsfm.raster.box_split import BLOCKS_A_SIDE, BoxSplit, deal
from rsfm.raster.grid import Grid, Window

Part = Literal["train", "test"]
Flags = NDArray[np.bool_]

POLYGONS_A_SIDE = 2
"""A block is at least this many times as long as the usual large polygon."""
LARGE = 90
"""Percentile of the lengths of polygons that counts as large."""


class LabelledChange(NamedTuple):
    """Labels with their split.

    A polygon of change belongs to the block of its middle, as a whole; what did not change is cut at the blocks. What
    is learned keeps GAP pixels away from blocks that are held out.

    Attributes:
        learned, held: the polygons of change of both parts.
        sentence: what the user should know.
    """

    labels: ChangeLabels
    split: BoxSplit
    learned: Polygons
    held: Polygons
    sentence: str

    def target(self, window: Window, part: Part) -> NDArray[np.uint8]:
        """Return the labels of a part, target_HW; IGNORED elsewhere."""
        target_HW = self.labels.read(window)
        if part == "train":
            grown = Window(window.row - GAP, window.column - GAP, window.height + 2 * GAP, window.width + 2 * GAP)
            near_HW = binary_dilation(self.split.held_out(grown), np.ones((2 * GAP + 1, 2 * GAP + 1), bool))
            inside = slice(GAP, GAP + window.height), slice(GAP, GAP + window.width)
            own_HW, other_HW = self.learned.burn(window) > 0, self.held.burn(window) > 0
            target_HW[(near_HW[inside] & ~own_HW) | other_HW] = IGNORED
        else:
            own_HW, other_HW = self.held.burn(window) > 0, self.learned.burn(window) > 0
            target_HW[(~self.split.held_out(window) & ~own_HW) | other_HW] = IGNORED
        return target_HW


def split_changes(labels: ChangeLabels, grid: Grid, overlap: Window, block_m: float, seed: int) -> LabelledChange:
    """Hold out blocks with about a quarter of what was drawn of each kind, and of what did not change.

    Args:
        block_m: side of a block in metres; 0 chooses it.
    """
    side = _side(labels.changes, grid, block_m)
    height, width = -(-grid.height // side), -(-grid.width // side)
    counts_hwK = np.zeros((height, width, 1 + len(labels.names)))
    centre_F2 = shapely.get_coordinates(shapely.centroid(labels.changes.shapes_F))
    row_F = np.clip(centre_F2[:, 1] // side, 0, height - 1).astype(int)
    column_F = np.clip(centre_F2[:, 0] // side, 0, width - 1).astype(int)
    np.add.at(counts_hwK, (row_F, column_F, labels.changes.value_F), 1)
    counts_hwK[..., UNCHANGED] = _unchanged(labels, overlap, side, (height, width))
    counts_GK = counts_hwK.reshape(height * width, -1)
    split = BoxSplit(side, deal(counts_GK, seed).reshape(height, width))
    held_F = split.test_hw[row_F, column_F]
    sentence = _sentence(split, side * grid.gsd, int(held_F.sum()), len(held_F))
    return LabelledChange(labels, split, labels.changes.kept(~held_F), labels.changes.kept(held_F), sentence)


def _side(changes: Polygons, grid: Grid, block_m: float) -> int:
    longest = max(grid.height, grid.width)
    if block_m:
        return int(np.clip(round(block_m / grid.gsd), 1, longest))
    left, top, right, bottom = shapely.bounds(changes.shapes_F).T
    large = float(np.percentile(np.maximum(right - left, bottom - top), LARGE))
    return int(np.clip(max(np.ceil(POLYGONS_A_SIDE * large), longest // BLOCKS_A_SIDE), 1, longest))


def _unchanged(labels: ChangeLabels, overlap: Window, side: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return how many blocks' worth of ground that did not change each block has, changes not taken off."""
    shapes = list(labels.unchanged.shapes_F)
    if labels.complete is not None:
        window = labels.complete.window.intersection(overlap)
        whole = [shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)]
        shapes += whole if labels.complete.outlines is None else list(labels.complete.outlines.geometries)
    found_hw = np.zeros(shape)
    for drawn in shapes:
        left, top, right, bottom = (int(value // side) for value in shapely.bounds(drawn))
        for row in range(max(top, 0), min(bottom, shape[0] - 1) + 1):
            for column in range(max(left, 0), min(right, shape[1] - 1) + 1):
                block = shapely.box(column * side, row * side, (column + 1) * side, (row + 1) * side)
                found_hw[row, column] += shapely.area(shapely.intersection(drawn, block)) / side**2
    return found_hw


def _sentence(split: BoxSplit, metres: float, held: int, polygons: int) -> str:
    if not held:
        return "The changes lie too close together to hold some out, so there is no score. Draw more."
    return (
        f"The score comes from {int(split.test_hw.sum())} of {split.test_hw.size} blocks of {metres:.3g} m, "
        f"with {held} of {polygons} changes, that were held out."
    )
