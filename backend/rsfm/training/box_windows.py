"""Windows with boxes to learn from: around boxes and in between, turned, and blank where nothing may be learned.

Shape letters: B batch, C bands, H rows, W columns, S side of a window, N boxes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm.blocks.normalisation import Normalisation
from rsfm.detector import Target
from rsfm.raster.area import Area
from rsfm.raster.box_labels import FEWEST_PIXELS
from rsfm.raster.box_split import BoxSplit
from rsfm.raster.boxes import Boxes, areas, centres, corners
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster

AROUND_BOXES = 0.75
"""Share of the windows that lie around a box; the others lie anywhere."""
LEAST_SEEN = 0.5
"""Share of a box that a window must show for it to be asked for."""
PLACES = 50
"""Random places that are tried for one with something to learn from."""


class BoxSample(NamedTuple):
    """A batch of windows: normalised pixels, 0 where invalid, and the boxes of each."""

    pixels_BCHW: Tensor
    targets: list[Target]


class LabelledRaster(NamedTuple):
    """A raster with its boxes, the area in which all objects have one, and what is held out."""

    raster: Raster
    boxes_N: Boxes
    area: Area
    split: BoxSplit

    def learned(self) -> Boxes:
        """Return the boxes that are not held out."""
        return np.asarray(self.boxes_N[~self.split.holds_out(self.boxes_N)])

    def held_out(self) -> Boxes:
        return np.asarray(self.boxes_N[self.split.holds_out(self.boxes_N)])

    def may_learn(self, window: Window) -> NDArray[np.bool_]:
        """Tell which pixels of a window are in the area and neither in held out blocks nor in held out boxes."""
        allowed_HW = np.zeros((window.height, window.width), bool)
        part = window.intersection(self.area.window)
        top, left = part.row - window.row, part.column - window.column
        if part.height and part.width:
            allowed_HW[top : top + part.height, left : left + part.width] = self.area.inside(part)
        allowed_HW &= ~self.split.held_out(window)
        for box_4 in corners(self.held_out()) - np.array([window.column, window.row] * 2):
            first_column, first_row = (int(max(np.floor(value), 0)) for value in box_4[:2])
            end_column, end_row = (int(max(np.ceil(value), 0)) for value in box_4[2:])
            allowed_HW[first_row:end_row, first_column:end_column] = False
        return allowed_HW


class BoxWindows:
    """Makes batches; the same step gives the same one."""

    def __init__(
        self, rasters: list[LabelledRaster], normalisation: Normalisation, side: int, batch: int, seed: int
    ) -> None:
        self._rasters, self._normalisation = rasters, normalisation
        self._side, self._batch, self._seed = side, batch, seed
        self._learned = [each.learned() for each in rasters]
        self._places = [(index, box) for index, boxes_N in enumerate(self._learned) for box in range(len(boxes_N))]
        sizes_R = np.array([each.area.window.height * each.area.window.width for each in rasters], float)
        self._shares_R = sizes_R / sizes_R.sum()

    def batch(self, step: int) -> BoxSample:
        """Make the sample of a step."""
        random = np.random.default_rng((self._seed, step))
        pixels, valid, targets = [], [], []
        for _ in range(self._batch):
            for _ in range(PLACES):
                index, window = self._place(random)
                pixels_CSS, valid_SS = self._rasters[index].raster.read(window)
                valid_SS &= self._rasters[index].may_learn(window)
                if valid_SS.any():
                    break
            boxes_N = boxes_in(self._learned[index], window, valid_SS)
            turn, mirror = int(random.integers(4)), bool(random.integers(2))
            pixels.append(turned(pixels_CSS, turn, mirror))
            valid.append(turned(valid_SS, turn, mirror))
            corners_N4 = turned_corners(corners(boxes_N), self._side, turn, mirror)
            class_N = torch.from_numpy(boxes_N["value"].astype(np.int64))
            targets.append(Target(torch.from_numpy(corners_N4.astype(np.float32)), class_N))
        valid_BSS = torch.from_numpy(np.stack(valid))
        return BoxSample(self._normalisation(torch.from_numpy(np.stack(pixels)), valid_BSS), targets)

    def _place(self, random: np.random.Generator) -> tuple[int, Window]:
        if self._places and random.random() < AROUND_BOXES:
            index, box = self._places[int(random.integers(len(self._places)))]
            row_N, column_N = centres(self._learned[index][[box]])
            row, column = int(row_N[0]) - self._side // 2, int(column_N[0]) - self._side // 2
            shift = self._side * 3 // 8
            row, column = (at + int(random.integers(-shift, shift + 1)) for at in (row, column))
        else:
            index = int(random.choice(len(self._rasters), p=self._shares_R))
            area = self._rasters[index].area.window
            row = area.row + int(random.integers(max(area.height - self._side, 0) + 1))
            column = area.column + int(random.integers(max(area.width - self._side, 0) + 1))
        return index, Window(row, column, self._side, self._side)


def boxes_in(boxes_N: Boxes, window: Window, valid_SS: NDArray[np.bool_]) -> Boxes:
    """Return the boxes that a window shows by half or more, cut to it, in its pixels."""
    moved_N = boxes_N.copy()
    for side, offset, size in (
        ("left", window.column, window.width),
        ("right", window.column, window.width),
        ("top", window.row, window.height),
        ("bottom", window.row, window.height),
    ):
        moved_N[side] = np.clip(boxes_N[side] - offset, 0, size)
    wide_N, tall_N = moved_N["right"] - moved_N["left"], moved_N["bottom"] - moved_N["top"]
    kept_N = (np.minimum(wide_N, tall_N) >= FEWEST_PIXELS) & (areas(moved_N) >= LEAST_SEEN * areas(boxes_N))
    for index in np.flatnonzero(kept_N):
        left, top, right, bottom = (round(value) for value in corners(moved_N[[index]])[0])
        kept_N[index] = valid_SS[top:bottom, left:right].mean() >= LEAST_SEEN
    return np.asarray(moved_N[kept_N])


def turned(values: NDArray[np.generic], turn: int, mirror: bool) -> NDArray[np.generic]:
    """Turn the last two axes by quarters, against the clock, then mirror the last one."""
    values = np.rot90(values, turn, axes=(-2, -1))
    return np.ascontiguousarray(values[..., ::-1] if mirror else values)


def turned_corners(corners_N4: NDArray[np.float64], side: int, turn: int, mirror: bool) -> NDArray[np.float64]:
    """Turn boxes as `turned` turns a square of pixels."""
    for _ in range(turn):
        left, top, right, bottom = corners_N4.T
        corners_N4 = np.stack([top, side - right, bottom, side - left], axis=1)
    if mirror:
        left, top, right, bottom = corners_N4.T
        corners_N4 = np.stack([side - right, top, side - left, bottom], axis=1)
    return corners_N4
