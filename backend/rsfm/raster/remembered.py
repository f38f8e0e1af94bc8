"""A raster that remembers for a while which of its pixels were valid, for whoever uses the rows after their reader.

Shape letters: C bands, H rows, W columns.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster


class Remembered(Raster):
    """Shows a raster, and keeps the validity of what was read until it is forgotten."""

    def __init__(self, raster: Raster) -> None:
        """Show a raster, which whoever opened it closes."""
        self.raster = raster
        self.path, self.name, self.field, self.grid = raster.path, raster.name, raster.field, raster.grid
        self.bands, self.band_names = raster.bands, raster.band_names
        self.dtype, self.nodata, self.block = raster.dtype, raster.nodata, raster.block
        self._parts: list[tuple[Window, NDArray[np.bool_] | None]] = []
        self._changing = threading.Lock()

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Tell which pixels of a window are valid; those that were not read are not."""
        valid_HW = np.zeros((window.height, window.width), bool)
        with self._changing:
            parts = list(self._parts)
        for part, part_HW in parts:
            shared = part.intersection(window)
            if shared.height and shared.width:
                here, there = _slices(shared, window), _slices(shared, part)
                valid_HW[here] = True if part_HW is None else part_HW[there]
        return valid_HW

    def forget(self, row: int) -> None:
        """Forget what lies above a row."""
        with self._changing:
            self._parts = [(part, part_HW) for part, part_HW in self._parts if part.row + part.height > row]

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        self.raster.read_into(window, pixels_CHW, valid_HW)
        with self._changing:
            self._parts.append((window, None if valid_HW.all() else valid_HW.copy()))


def _slices(part: Window, whole: Window) -> tuple[slice, slice]:
    row, column = part.row - whole.row, part.column - whole.column
    return slice(row, row + part.height), slice(column, column + part.width)
