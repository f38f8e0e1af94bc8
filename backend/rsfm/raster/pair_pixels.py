"""The pixels of both dates in strips, as in the files, with what smoothing needs around them.

Shape letters: C bands, H rows, W columns of a strip.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair
from rsfm.raster.pair_sample import with_margin
from rsfm.raster.smoothing import MARGIN

Dates = tuple[np.ndarray, np.ndarray]
Finish = Callable[[np.ndarray, np.ndarray], None]
"""Takes magnitude_HW and valid_HW of the next rows."""


class PairPixels:
    """Both dates of a strip; a pixel does not depend on the strip it is read in."""

    def __init__(self, pair: Pair, strip: Window) -> None:
        """Read a strip with what smoothing needs around it."""
        self._before_CHW, self._after_CHW, self._valid_HW = pair.read(with_margin(strip))
        self._inside = slice(MARGIN, MARGIN + strip.height, 1), slice(MARGIN, MARGIN + strip.width, 1)

    @property
    def valid_HW(self) -> np.ndarray:
        return self._valid_HW[self._inside]

    @cached_property
    def plain(self) -> Dates:
        """Bands of both dates as in the files."""
        inside = slice(None), *self._inside
        return self._before_CHW[inside], self._after_CHW[inside]

    @property
    def around(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bands of both dates with what smoothing needs around them, and what of it is valid."""
        return self._before_CHW, self._after_CHW, self._valid_HW


def each_strip(pair: Pair, window: Window, compute: Callable[[PairPixels], np.ndarray], finish: Finish) -> None:
    """Compute magnitude_HW strip by strip, from top to bottom."""
    for strip in pair.strips(window):
        pixels = PairPixels(pair, strip)
        finish(compute(pixels), pixels.valid_HW)
