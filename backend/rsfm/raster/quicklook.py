"""A raster in small, north up, and where its pixels are in that picture.

Shape letters: C bands, H rows, W columns of the picture, h some of its rows; P points.
"""

import math
import time
from typing import NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster
from rsfm.raster.validity import nodata_marker

SIDE = 800
"""Longest side of the picture, in pixels."""
AT_ONCE = 2**24
"""Values that are read at once."""


class Quicklook(NamedTuple):
    """A picture of a raster.

    Attributes:
        pixels_CHW: float32, in the raster's own unit; 0 where not valid.
        valid_HW: bool.
        grid: of the picture: pixels as wide as they are high on the ground, north up.
        complete: False where time was up before all was read.
    """

    pixels_CHW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]
    grid: Grid
    complete: bool

    def place(self, grid: Grid, points_P2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return column and row in the picture of places given as column and row of the raster's grid."""
        a, b, c, d, e, f = (~self.grid.transform @ grid.transform)[:6]
        return np.asarray(points_P2 @ np.array([[a, d], [b, e]]) + np.array([c, f]))


def quicklook(raster: Raster, area: Window, nodata: float | None = None, until: float = math.inf) -> Quicklook:
    """Read a part of a raster in small: of its overviews where it has some, else of all its pixels, one of many.

    Args:
        nodata: marks invalid pixels beside what the file says.
        until: when to give up, by `time.monotonic()`; rows that are not read by then are not valid.
    """
    part = raster.grid.crop(area)
    factor = max(1, -(-max(area.height, area.width) // SIDE))
    while factor > 1 and 2 ** math.floor(math.log2(factor)) != factor:
        factor += 1  # overviews halve
    level, step = raster.overview(factor)
    cells = area.cells(factor // step)
    pixels_CHW, valid_HW, complete = _read(level, cells, step, until)
    marker = nodata_marker(nodata, raster.dtype)
    if marker is not None:
        valid_HW &= (pixels_CHW != np.float32(marker)).all(0)
    small = level.grid.crop(cells).shrink(step)
    wanted = _upright(part, max(area.height, area.width) / max(valid_HW.shape))
    into_CHW = np.zeros((len(pixels_CHW), wanted.height, wanted.width), np.float32)
    valid_into_HW = np.zeros((wanted.height, wanted.width), np.uint8)
    crs = raster.grid.crs or "EPSG:3857"  # any, as both sides have the same
    places = {"src_transform": small.transform, "dst_transform": wanted.transform, "src_crs": crs, "dst_crs": crs}
    reproject(pixels_CHW, into_CHW, resampling=Resampling.nearest, **places)
    reproject(valid_HW.astype(np.uint8), valid_into_HW, resampling=Resampling.nearest, **places)
    return Quicklook(into_CHW, valid_into_HW > 0, wanted, complete)


def _read(raster: Raster, area: Window, step: int, until: float) -> tuple[NDArray[np.float32], NDArray[np.bool_], bool]:
    """Read every `step`-th pixel of an area, the middle one of each square, rows of blocks at a time."""
    height, width = -(-area.height // step), -(-area.width // step)
    pixels_CHW = np.zeros((raster.bands, height, width), np.float32)
    valid_HW = np.zeros((height, width), bool)
    rows = max(1, AT_ONCE // (raster.bands * area.width * step))
    columns_W = np.minimum(np.arange(width) * step + step // 2, area.width - 1)
    for first in range(0, height, rows):
        if time.monotonic() > until:
            return pixels_CHW, valid_HW, False
        top = first * step
        window = Window(area.row + top, area.column, min(rows * step, area.height - top), area.width)
        read_CHW, read_HW = raster.read(window)
        rows_h = np.minimum(np.arange(-(-window.height // step)) * step + step // 2, window.height - 1)
        here = slice(first, first + len(rows_h))
        pixels_CHW[:, here], valid_HW[here] = read_CHW[:, rows_h][..., columns_W], read_HW[rows_h][:, columns_W]
    return pixels_CHW, valid_HW, True


def _upright(grid: Grid, factor: float) -> Grid:
    """Return a grid over the same ground, north up, with pixels that are about `factor` times as large and square."""
    west, south, east, north = grid.bounds
    down, across = grid.pixel_sides
    per_unit_x, per_unit_y = grid.unit_metres
    side = math.sqrt(down * across) * factor
    width = max(1, round((east - west) * per_unit_x / side))
    height = max(1, round((north - south) * per_unit_y / side))
    transform = Affine((east - west) / width, 0, west, 0, -(north - south) / height, north)
    return Grid(grid.crs, transform, height, width)
