"""What both dates of a pair look like at a place, in small and stretched alike.

Shape letters: C bands, H rows, W columns of a picture; RGB is 3.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.picture_file import limits, shown_bands, stretch
from rsfm.raster.grid import Grid
from rsfm.raster.pair import Pair
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.thumbnail import Thumbnail, read_small


class ShownDates(NamedTuple):
    """The three bands of each date that are shown, from the files: masks leave out nothing.

    Attributes:
        names: of the bands.
        alike: whether both dates have the same type of values, and so one stretch.
    """

    before: Raster
    after: Raster
    names: tuple[str, ...]
    alike: bool

    def draw(self, grid: Grid, until: float) -> tuple[list[NDArray[np.uint8]], bool]:
        """Draw both dates on the grid of a picture.

        Args:
            until: when to give up reading, by `time.monotonic()`; the earlier date takes half of the time at most.

        Returns:
            colours_RGBHW of both dates, and whether all was read.
        """
        now = time.monotonic()
        small = [read_small(self.before, grid, now + (until - now) / 2), read_small(self.after, grid, until)]
        shown_2CHW = np.stack([np.broadcast_to(each.valid_HW, each.pixels_CHW.shape) for each in small])
        pixels_2CHW = np.stack([each.pixels_CHW for each in small])
        ranges = [limits(pixels_2CHW, shown_2CHW)] * 2 if self.alike else [_own_limits(each) for each in small]
        colours = [stretch(*each) for each in zip(pixels_2CHW, shown_2CHW, ranges, strict=True)]
        return colours, all(each.complete for each in small)


@contextmanager
def open_shown(pair: Pair) -> Iterator[ShownDates]:
    """Open the files of a pair for pictures; the later one lies where the pair has it."""
    before, after = pair.before, pair.after.raster
    bands = shown_bands(before.band_names)
    numbers = [[date.numbers[band] for band in bands] for date in (before, after)]
    with (
        open_raster(before.path, "before", numbers=numbers[0]) as earlier,
        open_raster(after.path, "after", numbers=numbers[1]) as later,
    ):
        later.grid = after.grid
        names = tuple(before.band_names[band] for band in bands)
        yield ShownDates(earlier, later, names, earlier.dtype == later.dtype)


def _own_limits(small: Thumbnail) -> NDArray[np.float32]:
    return limits(small.pixels_CHW[None], np.broadcast_to(small.valid_HW, small.pixels_CHW.shape)[None])
