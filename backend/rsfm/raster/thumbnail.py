"""A place in small: any raster on a grid of few pixels, in bounded memory and time.

Overviews are read where there are some. Where a pixel of the picture spans many of the file, one of them is taken, and
rows are read in an order that shows the whole in coarse lines first.

Shape letters: C bands, H rows, W columns of the picture.
"""

import math
import time
from typing import NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster
from rsfm.raster.resampled import Nearest, Resampled, relative_pixel

Bounds = tuple[float, float, float, float]

AVERAGED = 4
"""Pixels of a file along the side of one of the picture, up to which all are averaged."""


class Thumbnail(NamedTuple):
    """A place in small.

    Attributes:
        pixels_CHW: float32, in the raster's own unit; 0 where not valid.
        valid_HW: bool.
        complete: False where time was up: rows that were not read repeat the nearest one that was.
    """

    pixels_CHW: NDArray[np.float32]
    valid_HW: NDArray[np.bool_]
    complete: bool


def square_around(grid: Grid, bounds: Bounds, wider: float, smallest: float) -> Bounds:
    """Return the bounds of a square on the ground around the middle of others.

    Args:
        grid: of a raster; bounds are in its CRS.
        wider: times by which the square is longer than the longer side.
        smallest: pixels of the raster that the square is long at least.
    """
    west, south, east, north = bounds
    east_metres, north_metres = _unit_metres(grid, bounds)
    longest = max((east - west) * east_metres, (north - south) * north_metres)
    half = max(longest * wider, smallest * _pixel(grid, bounds)) / 2
    x, y, across, along = (west + east) / 2, (south + north) / 2, half / east_metres, half / north_metres
    return x - across, y - along, x + across, y + along


def shifted_into(bounds: Bounds, wide: Bounds) -> Bounds:
    """Move bounds into wider ones, along each axis as far as they fit."""
    west, south, east, north = bounds
    across = _into(west, east, wide[0], wide[2])
    along = _into(south, north, wide[1], wide[3])
    return west + across, south + along, east + across, north + along


def small_grid(grid: Grid, bounds: Bounds, side: int) -> Grid:
    """Lay a picture over bounds: north up, with pixels that are square on the ground and no finer than a raster's.

    Where they are as fine they are those of the raster, if these are square.

    Args:
        side: pixels of the picture's longer side, at most.
    """
    west, south, east, north = bounds
    east_metres, north_metres = _unit_metres(grid, bounds)
    own = _pixel(grid, bounds)
    longest = max((east - west) * east_metres, (north - south) * north_metres)
    pixel = max(own, longest / side)
    across, along = pixel / east_metres, pixel / north_metres
    if pixel == own:  # the nearest corner of a pixel
        column, row = ~grid.transform @ (west, north)
        west, north = grid.transform @ (round(column), round(row))
    width, height = (max(1, round(length)) for length in ((east - west) / across, (north - south) / along))
    return Grid(grid.crs, Affine(across, 0, west, 0, -along, north), min(height, side), min(width, side))


def read_small(raster: Raster, grid: Grid, until: float = math.inf) -> Thumbnail:
    """Read a raster on the grid of a picture.

    Args:
        until: when to give up, by `time.monotonic()`.
    """
    times = relative_pixel(raster.grid, grid)
    level, _ = raster.overview(2 ** math.floor(math.log2(max(times, 1.0))))
    if relative_pixel(level.grid, grid) <= AVERAGED:
        return Thumbnail(*Resampled(level, grid).read(grid.window), True)
    return _read_lines(Nearest(level, grid), until)


def _read_lines(raster: Nearest, until: float) -> Thumbnail:
    """Read line by line, each a single row of the file's pixels."""
    height, width = raster.grid.height, raster.grid.width
    pixels_CHW = np.zeros((raster.bands, height, width), np.float32)
    valid_HW, read_H = np.zeros((height, width), bool), np.zeros(height, bool)
    for row in sorted(range(height), key=lambda row: -(row & -row) if row else -height):
        if time.monotonic() > until:
            break
        found_C1W, found_1W = raster.read(Window(row, 0, 1, width))
        pixels_CHW[:, row], valid_HW[row], read_H[row] = found_C1W[:, 0], found_1W[0], True
    complete = bool(read_H.all())
    if read_H.any() and not complete:
        read = np.flatnonzero(read_H)
        nearest_H = read[np.abs(np.arange(height)[:, None] - read).argmin(1)]
        pixels_CHW, valid_HW = pixels_CHW[:, nearest_H], valid_HW[nearest_H]
    return Thumbnail(pixels_CHW, valid_HW, complete)


def _into(first: float, last: float, start: float, end: float) -> float:
    """Return by how much an interval must be moved to lie in another, or in its middle where it is longer."""
    if last - first > end - start:
        return (start + end - first - last) / 2
    return max(start - first, 0) - max(last - end, 0)


def _pixel(grid: Grid, bounds: Bounds) -> float:
    """Return the metres of a pixel's side at the middle of bounds."""
    east_metres, north_metres = _unit_metres(grid, bounds)
    return math.sqrt(abs(grid.transform.determinant) * east_metres * north_metres)


def _unit_metres(grid: Grid, bounds: Bounds) -> tuple[float, float]:
    """Return the metres of a map unit to the east and to the north at the middle of bounds."""
    west, south, east, north = bounds
    return Grid(grid.crs, Affine(east - west, 0, west, 0, south - north, north), 1, 1).unit_metres
