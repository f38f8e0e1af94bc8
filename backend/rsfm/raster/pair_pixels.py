"""The pixels of both dates in strips, as in the files, with what smoothing needs around them.

Shape letters: C bands, H rows, W columns of a strip.
"""

from collections.abc import Callable
from contextlib import closing
from functools import cached_property

import numpy as np

from rsfm.raster.ahead import one_ahead
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
        self._before_CHW, self._after_CHW, self._valid_HW = pair.read_stored(with_margin(strip))
        self._inside = slice(MARGIN, MARGIN + strip.height, 1), slice(MARGIN, MARGIN + strip.width, 1)

    @property
    def valid_HW(self) -> np.ndarray:
        return self._valid_HW[self._inside]

    @cached_property
    def plain(self) -> Dates:
        """Bands of both dates as in the files, float32."""
        inside = slice(None), *self._inside
        return self._before_CHW[inside].astype(np.float32), self._after_CHW[inside].astype(np.float32)

    @property
    def around(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bands of both dates with what smoothing needs around them, as stored, and what of it is valid."""
        return self._before_CHW, self._after_CHW, self._valid_HW


def each_strip(pair: Pair, window: Window, compute: Callable[[PairPixels], np.ndarray], finish: Finish) -> None:
    """Compute magnitude_HW strip by strip, from top to bottom; each is read while the one before is used."""
    with closing(one_ahead(PairPixels(pair, strip) for strip in pair.strips(window))) as strips:
        for pixels in strips:
            finish(compute(pixels), pixels.valid_HW)


def as_stored(magnitude_HW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Return a magnitude as files hold it: NaN where invalid."""
    return np.where(valid_HW, magnitude_HW, np.float32(np.nan))
