"""Shows a raster on the grid of another one, as if it had been made there.

GDAL's warper is not used: it takes the fourth band of an 8-bit raster for alpha, also where it is near infrared, and
its values depend on the window that is read. Here validity is the reader's, and a pixel's value is its own.

Shape letters: C bands, H rows, W columns.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform as transform_coordinates
from scipy.ndimage import map_coordinates

from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster

Interpolate = Callable[[np.ndarray], np.ndarray]

LATTICE = 16
"""Pixels between the places that are projected from one CRS to another; the rest is interpolated."""
ALIGNED = 1e-3
"""Part of a pixel by which two grids may miss each other and still count as one."""
NOWHERE = -1e8
"""Pixel of a place that the other CRS cannot express."""
ENOUGH = 0.5
"""Share of the averaged pixels that must be valid to make a valid one."""


class Resampled(Raster):
    """A raster on another grid.

    Pixels are shifted whole where the grids allow it, else interpolated bilinearly between valid pixels; a raster of
    finer pixels is averaged first. A value does not depend on the window it is read with.

    Attributes:
        resampled: False when the pixels are those of the file.
    """

    def __init__(self, raster: Raster, grid: Grid) -> None:
        """Show `raster`, which its owner closes, on a grid."""
        self.raster, self.grid = raster, grid
        self.path, self.name, self.field = raster.path, raster.name, raster.field
        self.bands, self.band_names, self.numbers = raster.bands, raster.band_names, raster.numbers
        self.nodata, self.block = None, raster.block
        self._same_crs = raster.grid.crs == grid.crs
        self._shift = whole_shift(raster.grid, grid)
        self.resampled = self._shift is None
        self.dtype = np.dtype(np.float32) if self.resampled else raster.dtype
        self._factor = 1 if self._shift else max(1, round(relative_pixel(raster.grid, grid)))

    def close(self) -> None:
        """Do nothing: the file belongs to `raster`."""

    def release(self) -> None:
        self.raster.release()

    def cells(self) -> None:
        """Return None: a window is interpolated as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        if self._shift is not None:
            row, column = self._shift
            source = Window(window.row + row, window.column + column, window.height, window.width)
            self.raster.read_into(source, pixels_CHW, valid_HW)
            return
        rows_HW, columns_HW = self._positions(window)
        row, column = math.floor(rows_HW.min()), math.floor(columns_HW.min())
        source = Window(row, column, math.floor(rows_HW.max()) - row + 2, math.floor(columns_HW.max()) - column + 2)
        source = source.intersection(_expand(self.raster.grid.shrink(self._factor).window, 1))
        pixels_CHW[:], valid_HW[:] = 0, False
        if source.height and source.width:
            found_CHW, found_HW = self._averaged(source)
            rows_HW, columns_HW = rows_HW - source.row, columns_HW - source.column
            interpolate = _by_axis(rows_HW, columns_HW) if self._same_crs else _by_place(rows_HW, columns_HW)
            valid_HW[:] = _nearest(found_HW, rows_HW, columns_HW)
            pixels_CHW[:] = _interpolate(found_CHW, found_HW, valid_HW, interpolate)

    def _positions(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return where the centres of a window's pixels lie in the (averaged) raster, 0 at the centre of its first.

        In the same CRS a row of pixels stays a row: the answers are then rows_H1 and columns_1W.
        """
        if self._same_crs:
            rows_H1 = np.arange(window.row, window.row + window.height)[:, None] + 0.5
            columns_1W = np.arange(window.column, window.column + window.width)[None] + 0.5
            found_H1, _ = to_pixels(self.grid, self.raster.grid, rows_H1, np.zeros_like(rows_H1))
            _, found_1W = to_pixels(self.grid, self.raster.grid, np.zeros_like(columns_1W), columns_1W)
            return found_H1 / self._factor - 0.5, found_1W / self._factor - 0.5
        rows, columns = _lattice(window.row, window.height), _lattice(window.column, window.width)
        row_RC, column_RC = np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")
        row_RC, column_RC = to_pixels(self.grid, self.raster.grid, row_RC, column_RC)
        row_RC, column_RC = row_RC / self._factor - 0.5, column_RC / self._factor - 0.5
        down = (np.arange(window.row, window.row + window.height) - rows[0]) / LATTICE
        right = (np.arange(window.column, window.column + window.width) - columns[0]) / LATTICE
        return _between(row_RC, down, right), _between(column_RC, down, right)

    def _averaged(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read a window of the raster whose pixels are averages of factor x factor valid ones."""
        factor = self._factor
        if factor == 1:
            return self.raster.read(window)
        pixels_CHW, valid_HW = self.raster.read(Window(*(factor * value for value in window)))
        count_HW = valid_HW.reshape(window.height, factor, window.width, factor).sum((1, 3))
        sums_CHW = pixels_CHW.reshape(self.bands, window.height, factor, window.width, factor).sum((2, 4))
        valid_HW = count_HW >= ENOUGH * factor**2
        return sums_CHW / np.maximum(count_HW, 1) * valid_HW, valid_HW


class Nearest(Resampled):
    """A raster of categories on another grid: each pixel is the one whose area its centre lies in, never a mean.

    Valid is what lies inside the raster and is valid there.
    """

    def __init__(self, raster: Raster, grid: Grid) -> None:
        super().__init__(raster, grid)
        self.dtype, self._factor = raster.dtype, 1

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        if self._shift is not None:
            row, column = self._shift
            source = Window(window.row + row, window.column + column, window.height, window.width)
            self.raster.read_into(source, pixels_CHW, valid_HW)
            return
        rows_HW, columns_HW = self._positions(window)
        shape = (window.height, window.width)
        rows_HW = np.broadcast_to(np.floor(rows_HW + 0.5), shape).astype(int)
        columns_HW = np.broadcast_to(np.floor(columns_HW + 0.5), shape).astype(int)
        row, column = int(rows_HW.min()), int(columns_HW.min())
        source = Window(row, column, int(rows_HW.max()) - row + 1, int(columns_HW.max()) - column + 1)
        source = source.intersection(self.raster.grid.window)
        pixels_CHW[:], valid_HW[:] = 0, False
        if not (source.height and source.width):
            return
        found_CHW, found_HW = self.raster.read_native(source)
        rows_HW, columns_HW = rows_HW - source.row, columns_HW - source.column
        inside_HW = (rows_HW >= 0) & (rows_HW < source.height) & (columns_HW >= 0) & (columns_HW < source.width)
        rows_HW, columns_HW = np.where(inside_HW, rows_HW, 0), np.where(inside_HW, columns_HW, 0)
        valid_HW[:] = found_HW[rows_HW, columns_HW] & inside_HW
        pixels_CHW[:] = found_CHW[:, rows_HW, columns_HW] * inside_HW


def relative_pixel(from_grid: Grid, onto: Grid) -> float:
    """Return how many pixels of one grid the side of a pixel of the other spans, at its centre."""
    row, column = onto.height / 2, onto.width / 2
    rows, columns = np.array([row, row + 1, row]), np.array([column, column, column + 1])
    rows, columns = to_pixels(onto, from_grid, rows, columns)
    down, right = (rows[1] - rows[0], columns[1] - columns[0]), (rows[2] - rows[0], columns[2] - columns[0])
    return math.sqrt(abs(down[0] * right[1] - down[1] * right[0]))


def to_pixels(grid: Grid, other: Grid, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn places in pixels of one grid into pixels of another, whatever their CRS; far outside where there is none."""
    x, y = to_map(grid, rows, columns)
    if grid.crs != other.crs:
        lists = transform_coordinates(grid.crs, other.crs, x.ravel(), y.ravel())
        x, y = (np.asarray(values).reshape(np.shape(rows)) for values in lists)
    inverse = ~other.transform
    found_rows = inverse.d * x + inverse.e * y + inverse.f
    found_columns = inverse.a * x + inverse.b * y + inverse.c
    placed = np.isfinite(found_rows) & np.isfinite(found_columns)
    return np.where(placed, found_rows, NOWHERE), np.where(placed, found_columns, NOWHERE)


def to_map(grid: Grid, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn places in pixels into map coordinates x and y; whole numbers are corners of pixels."""
    a, b, c, d, e, f = grid.transform[:6]
    return np.asarray(a * columns + b * rows + c), np.asarray(d * columns + e * rows + f)


class _Axis(NamedTuple):
    before: np.ndarray
    part: np.ndarray


def whole_shift(source: Grid, grid: Grid) -> tuple[int, int] | None:
    """Return the rows and columns by which two grids differ, when these are whole numbers at every corner."""
    if source.crs != grid.crs:
        return None
    rows, columns = np.array([0, 0, grid.height, grid.height]), np.array([0, grid.width, 0, grid.width])
    found_rows, found_columns = to_pixels(grid, source, rows, columns)
    down, right = found_rows - rows, found_columns - columns
    whole = round(float(down[0])), round(float(right[0]))
    misses = max(np.abs(down - whole[0]).max(), np.abs(right - whole[1]).max())
    return whole if misses <= ALIGNED else None


def _lattice(first: int, count: int) -> np.ndarray:
    """Return multiples of LATTICE around pixels, so that they are the same for every window."""
    return np.arange(first // LATTICE, (first + count - 1) // LATTICE + 2) * LATTICE


def _expand(window: Window, pixels: int) -> Window:
    row, column, height, width = window
    return Window(row - pixels, column - pixels, height + 2 * pixels, width + 2 * pixels)


def _between(values_RC: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Interpolate a lattice linearly at fractional rows and columns."""
    row, column = _axis(down, values_RC.shape[0]), _axis(right, values_RC.shape[1])
    by_row = values_RC[row.before] + (values_RC[row.before + 1] - values_RC[row.before]) * row.part[:, None]
    left = by_row[:, column.before]
    return np.asarray(left + (by_row[:, column.before + 1] - left) * column.part)


def _axis(at: np.ndarray, size: int) -> _Axis:
    before = np.minimum(at.astype(int), size - 2)
    return _Axis(before, at - before)


def _interpolate(
    pixels_CHW: np.ndarray, usable_HW: np.ndarray, valid_HW: np.ndarray, interpolate: Interpolate
) -> np.ndarray:
    """Interpolate bands where `valid_HW`, with the weight of unusable pixels given to the usable ones beside them."""
    weight_HW = interpolate(usable_HW.astype(np.float32))
    found_CHW = np.stack([interpolate(band_HW) for band_HW in pixels_CHW])
    np.divide(found_CHW, weight_HW, out=found_CHW, where=valid_HW)
    found_CHW *= valid_HW
    return found_CHW


def _by_place(rows_HW: np.ndarray, columns_HW: np.ndarray) -> Interpolate:
    """Return what interpolates a band bilinearly at places, with 0 outside."""
    places = np.stack([rows_HW, columns_HW])
    return partial(map_coordinates, coordinates=places, order=1, mode="grid-constant", cval=0)


def _by_axis(rows_H1: np.ndarray, columns_1W: np.ndarray) -> Interpolate:
    """Return the same for places in rows and columns, several times faster."""

    def interpolate(band: np.ndarray) -> np.ndarray:
        framed = np.pad(band, 1)
        row = _axis(np.clip(rows_H1[:, 0] + 1, 0, framed.shape[0] - 1), framed.shape[0])
        column = _axis(np.clip(columns_1W[0] + 1, 0, framed.shape[1] - 1), framed.shape[1])
        above = framed[row.before]
        by_row = above + (framed[row.before + 1] - above) * row.part[:, None].astype(np.float32)
        left = by_row[:, column.before]
        return np.asarray(left + (by_row[:, column.before + 1] - left) * column.part.astype(np.float32))

    return interpolate


def _nearest(valid_HW: np.ndarray, rows_HW: np.ndarray, columns_HW: np.ndarray) -> np.ndarray:
    """Tell whether the pixels that places lie in are valid; False outside."""
    row_HW, column_HW = np.floor(rows_HW + 0.5), np.floor(columns_HW + 0.5)
    height, width = valid_HW.shape
    inside_HW = (row_HW >= 0) & (row_HW < height) & (column_HW >= 0) & (column_HW < width)
    row_HW, column_HW = np.where(inside_HW, row_HW, 0).astype(int), np.where(inside_HW, column_HW, 0).astype(int)
    return np.asarray(valid_HW[row_HW, column_HW] & inside_HW)
