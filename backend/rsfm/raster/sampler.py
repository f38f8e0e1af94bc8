"""Draws windows from rasters at random, for training.

A batch depends on the seed and its index alone: training resumes anywhere, and threads do not change it.
Shape letters: N windows, C bands, H rows, W columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, check_has_valid_pixels, control
from rsfm.raster.statistics import check_same_bands
from rsfm.raster.validity import probes

TRIES = 1000
"""Windows drawn in place of one with too much nodata, before giving up."""
MEMORY = 512 * 2**20
"""Bytes of decoded pixels that are kept; rasters beyond it are read window by window."""


class _Place(NamedTuple):
    """A raster, the part of it to draw from, its pixels if they are kept, and the share of them that is valid."""

    raster: Raster
    area: Window
    pixels_CHW: np.ndarray | None
    valid_HW: np.ndarray | None
    share: float


class WindowSampler:
    """Draws windows uniformly over the valid area of all rasters, and refuses those with too much nodata.

    The rasters stay the caller's, who closes them.
    """

    def __init__(
        self,
        rasters: Sequence[Raster],
        size: int,
        areas: Sequence[Window] | None = None,
        seed: int = 0,
        max_invalid: float = 0.1,
        memory: int = MEMORY,
    ) -> None:
        """Look at the rasters; those that fit are decoded once and kept in their own type.

        Args:
            size: side of a window in pixels.
            areas: where windows may lie, one a raster; None is everywhere.
            max_invalid: share of nodata a window may have.
            memory: bytes that may be kept.

        Raises:
            UserError: a raster or area is smaller than a window, has no valid pixel, or the bands differ.
        """
        check_same_bands(rasters)
        self.size, self.seed, self.max_invalid = size, seed, max_invalid
        self._places: list[_Place] = []
        for raster, area in zip(rasters, areas or [raster.grid.window for raster in rasters], strict=True):
            _check_size(raster, area, size)
            place = _look(raster, area, memory)
            memory -= 0 if place.pixels_CHW is None else place.pixels_CHW.nbytes
            self._places.append(place)
        weights = np.array([place.share * place.area.height * place.area.width for place in self._places])
        self._edges = np.cumsum(weights / weights.sum())[:-1]

    def batch(self, index: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the windows of batch `index`.

        Returns:
            pixels_NCHW: float32, in the rasters' own unit, 0 where invalid.
            valid_NHW: bool.
            gsd_N: float32, metres a pixel.

        Raises:
            UserError: hardly any window has little enough nodata, or a raster is damaged.
        """
        random = np.random.default_rng((self.seed, index))
        bands = self._places[0].raster.bands
        pixels_NCHW = np.empty((count, bands, self.size, self.size), np.float32)
        valid_NHW = np.empty((count, self.size, self.size), bool)
        gsd_N = np.empty(count, np.float32)
        for number in range(count):
            place = self._places[int(np.searchsorted(self._edges, random.random(), "right"))]
            pixels_NCHW[number], valid_NHW[number] = self._draw(random, place)
            gsd_N[number] = place.raster.grid.gsd
        return pixels_NCHW, valid_NHW, gsd_N

    def _draw(self, random: np.random.Generator, place: _Place) -> tuple[np.ndarray, np.ndarray]:
        area, size = place.area, self.size
        for _ in range(TRIES):
            row, column = random.integers((area.height - size + 1, area.width - size + 1))
            if place.pixels_CHW is not None and place.valid_HW is not None:
                rows, columns = slice(row, row + size), slice(column, column + size)
                pixels_CHW, valid_HW = place.pixels_CHW[:, rows, columns], place.valid_HW[rows, columns]
            else:
                pixels_CHW, valid_HW = place.raster.read(Window(area.row + row, area.column + column, size, size))
            if np.count_nonzero(valid_HW) >= (1 - self.max_invalid) * size * size:
                return pixels_CHW, valid_HW
        raise UserError(
            f"Only {place.share:.1%} of the pixels of '{place.raster.name}' are valid, so that none of {TRIES} windows "
            f"of {size} px had at most {self.max_invalid:.0%} of nodata. Choose a smaller 'Window', or an 'Area' with "
            "less nodata.",
            "window",
        )


def _check_size(raster: Raster, area: Window, size: int) -> None:
    whole = area == raster.grid.window
    if min(area.height, area.width) < size:
        where = f"'{raster.name}' is" if whole else f"The area on '{raster.name}' is"
        change = f"or a larger raster under '{control(raster.field)}'" if whole else "or draw a larger 'Area'"
        raise UserError(
            f"{where} {area.height} x {area.width} px, smaller than a window of {size} px. Choose a smaller 'Window', "
            f"{change}.",
            raster.field if whole else "area",
        )


def _look(raster: Raster, area: Window, memory: int) -> _Place:
    """Keep the pixels of a small raster; of a large one, estimate the share that is valid."""
    if raster.bands * area.height * area.width * raster.dtype.itemsize <= memory:
        pixels_CHW, valid_HW = raster.read_native(area)
        share = float(valid_HW.mean())
        if share == 0:
            raise UserError(
                f"'{raster.name}' has no valid pixel in the area. Choose another raster under "
                f"'{control(raster.field)}', or another 'Area'.",
                raster.field,
            )
        return _Place(raster, area, pixels_CHW, valid_HW, share)
    check_has_valid_pixels(raster)
    share = float(np.mean([raster.read_native(part)[1].mean() for part in probes(area, count=8)]))
    return _Place(raster, area, None, None, max(share, 1e-3))
