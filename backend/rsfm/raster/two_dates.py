"""Two dates as one raster of twice as many bands, so that what reads a raster reads both in step.

Shape letters: C bands of both dates, H rows, W columns.
"""

from collections.abc import Hashable

import numpy as np

from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster


class TwoDates(Raster):
    """The bands of the earlier date, then those of the later; valid where both are. Closing it closes neither."""

    def __init__(self, before: Raster, after: Raster) -> None:
        """Show two rasters of one grid and as many bands."""
        self.before, self.after = before, after
        self.path, self.name, self.field, self.grid = before.path, before.name, before.field, before.grid
        self.bands, self.band_names = 2 * before.bands, (*before.band_names, *after.band_names)
        self.numbers = list(range(1, self.bands + 1))
        self.dtype, self.nodata, self.block = np.dtype(np.float32), None, before.block

    @property
    def key(self) -> Hashable:
        return self.before.key, self.after.key

    def close(self) -> None:
        """Do nothing: the rasters belong to others."""

    def release(self) -> None:
        self.before.release()
        self.after.release()

    def cells(self) -> None:
        """Return None: a window is read as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        half = self.before.bands
        pixels_CHW[:half], before_HW = self.before.read(window)
        pixels_CHW[half:], after_HW = self.after.read(window)
        valid_HW[:] = before_HW & after_HW
        pixels_CHW *= valid_HW
