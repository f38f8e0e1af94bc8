"""Keeps the windows of several rasters that were read last, so that what reads them twice in a row decodes them once.

Shape letters: C bands, H rows, W columns.
"""

from collections import OrderedDict

import numpy as np

from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster
from rsfm.raster.resampled import Resampled


class KeptWindows:
    """The pixels and the validity of a few windows, whatever raster they are of."""

    def __init__(self, most: int) -> None:
        """Keep at most `most` windows."""
        self._most = most
        self._kept: OrderedDict[tuple[int, Window], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def get(self, raster: "KeptRaster", window: Window) -> tuple[np.ndarray, np.ndarray] | None:
        """Return pixels_CHW and valid_HW, which nobody may change; None where they are not kept."""
        key = id(raster), window
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, raster: "KeptRaster", window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Keep a copy of a window, and forget the one that was used least recently if there are too many."""
        self._kept[id(raster), window] = pixels_CHW.copy(), valid_HW.copy()
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


class KeptRaster(Resampled):
    """A raster on another grid whose windows are kept."""

    def __init__(self, raster: Raster, grid: Grid, kept: KeptWindows) -> None:
        """Show `raster`, which its owner closes, on a grid."""
        super().__init__(raster, grid)
        self._kept = kept

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        found = self._kept.get(self, window)
        if found is None:
            super()._read_inside(window, pixels_CHW, valid_HW)
            self._kept.put(self, window, pixels_CHW, valid_HW)
        else:
            pixels_CHW[:], valid_HW[:] = found
