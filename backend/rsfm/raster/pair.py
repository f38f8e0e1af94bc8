"""Two dates on one grid: that of the earlier one, where both have pixels.

Shape letters: C bands, H rows, W columns.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
from affine import Affine
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window
from rsfm.raster.masked import Masked, open_mask
from rsfm.raster.reader import Raster, as_float, control, open_raster
from rsfm.raster.resampled import Resampled, relative_pixel, to_map, to_pixels

STRIP_BYTES = 32 * 2**20
"""Memory for the pixels of one date in one strip; a few copies of it are in use at once."""


class Pairing(NamedTuple):
    """How two files are made a pair, beyond their paths.

    Attributes:
        before_numbers, after_numbers: of the bands that are compared, from 1; None takes all as they come.
        before_mask, after_mask: rasters that tell what is left out; None is nothing.
        mask_values: values of these that are left out, as text; empty where they tell it themselves.
        down, right: how far the later date lies off, in pixels of the earlier one; it is moved back.
    """

    before_numbers: Sequence[int] | None = None
    after_numbers: Sequence[int] | None = None
    before_mask: str | None = None
    after_mask: str | None = None
    mask_values: str = ""
    down: float = 0.0
    right: float = 0.0


AS_THEY_ARE = Pairing()


class Pair(NamedTuple):
    """Two dates.

    Attributes:
        before: its grid is the pair's.
        after: on the grid of `before`.
        window: the overlap, in pixels of that grid.
        notes: what the user should know about how the grids were made one.
    """

    before: Raster
    after: Resampled
    window: Window
    notes: list[str]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read before_CHW, after_CHW, float32 and 0 where invalid, and valid_HW: usable on both dates."""
        before_CHW, after_CHW, valid_before_HW, valid_after_HW = self.read_dates(window)
        valid_HW = valid_before_HW & valid_after_HW
        clear(before_CHW, valid_before_HW, valid_HW)
        clear(after_CHW, valid_after_HW, valid_HW)
        return before_CHW, after_CHW, valid_HW

    def read_stored(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read as `read` does, but leave integers of 16 bits or fewer as they are: less memory to go through."""
        before_CHW, valid_before_HW = _stored(self.before, window)
        after_CHW, valid_after_HW = _stored(self.after, window)
        valid_HW = valid_before_HW & valid_after_HW
        clear(before_CHW, valid_before_HW, valid_HW)
        clear(after_CHW, valid_after_HW, valid_HW)
        return before_CHW, after_CHW, valid_HW

    def read_dates(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read before_CHW, after_CHW, and for each where it is valid itself."""
        before_CHW, valid_before_HW = self.before.read(window)
        after_CHW, valid_after_HW = self.after.read(window)
        return before_CHW, after_CHW, valid_before_HW, valid_after_HW

    def strips(self, window: Window) -> Iterator[Window]:
        """Cut a window into strips of whole rows, from top to bottom."""
        height = max(1, STRIP_BYTES // (4 * self.before.bands * max(window.width, 1)))
        for row in range(0, window.height, height):
            yield Window(window.row + row, window.column, min(height, window.height - row), window.width)


@contextmanager
def open_pair(before: str, after: str, how: Pairing = AS_THEY_ARE) -> Iterator[Pair]:
    """Open two dates.

    Raises:
        UserError: different numbers of bands, no overlap, or a file that cannot be used.
    """
    with ExitStack() as stack:
        earlier = stack.enter_context(open_raster(before, "before", numbers=how.before_numbers))
        later = stack.enter_context(open_raster(after, "after", numbers=how.after_numbers))
        if earlier.bands != later.bands:
            raise UserError(
                f"'{earlier.name}' has {earlier.bands} bands and '{later.name}' has {later.bands}. Choose rasters with "
                "the same bands, in the same order, under 'Before' and 'After', or match their bands by name under "
                "'Bands'.",
                "after",
            )
        if how.before_mask:
            mask = open_mask(how.before_mask, how.mask_values, "before_mask")
            earlier = stack.enter_context(Masked(earlier, mask))
        if how.after_mask:
            mask = open_mask(how.after_mask, how.mask_values, "after_mask")
            later = stack.enter_context(Masked(later, mask))
        if how.down or how.right:
            later.grid = moved_back(later.grid, earlier.grid, how.down, how.right)
        window = _overlap(earlier, later)
        notes = _notes(earlier, later, window)
        yield Pair(earlier, Resampled(later, earlier.grid), window, notes)


def clear(pixels_CHW: np.ndarray, valid_HW: np.ndarray, both_HW: np.ndarray) -> None:
    """Set pixels of a date that are valid on this date only to 0, in place; invalid ones are 0."""
    if not np.array_equal(valid_HW, both_HW):
        pixels_CHW *= both_HW.astype(pixels_CHW.dtype)


def _stored(raster: Raster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    found = raster.read_native(window)
    return found if raster.dtype.kind in "iu" and raster.dtype.itemsize <= 2 else as_float(*found)


def moved_back(grid: Grid, onto: Grid, down: float, right: float) -> Grid:
    """Return the grid of a raster that lies off by some pixels of another grid, with that taken back."""
    rows, columns = (
        np.array([onto.height / 2, onto.height / 2 - down]),
        np.array([onto.width / 2, onto.width / 2 - right]),
    )
    if grid.crs == onto.crs:
        x, y = to_map(onto, rows, columns)
    else:
        x, y = to_map(grid, *to_pixels(onto, grid, rows, columns))
    return grid._replace(transform=Affine.translation(x[1] - x[0], y[1] - y[0]) @ grid.transform)


def shared_window(raster: Raster, grid: Grid) -> Window:
    """Return the pixels of a grid that the outline of a raster touches; its height or width is 0 where there is none.

    Raises:
        UserError: the raster cannot be brought into the CRS of the grid.
    """
    return _touched(grid, _bounds_in(raster, grid))


def _overlap(earlier: Raster, later: Raster) -> Window:
    """Return the pixels of the earlier grid that the outline of the later one touches."""
    grid = earlier.grid
    bounds = _bounds_in(later, grid)
    window = _touched(grid, bounds)
    if window.height == 0 or window.width == 0:
        raise UserError(
            f"'{earlier.name}' and '{later.name}' do not overlap: {_distance(grid, bounds)} lies "
            "between them. Choose two rasters of the same place under 'Before' and 'After', and check their CRS.",
            "after",
        )
    return window


def _touched(grid: Grid, bounds: tuple[float, float, float, float]) -> Window:
    west, south, east, north = bounds
    inverse = ~grid.transform  # no rotation: the reader refuses it
    columns = inverse.a * west + inverse.c, inverse.a * east + inverse.c
    rows = inverse.e * south + inverse.f, inverse.e * north + inverse.f
    row, column = math.floor(min(rows) + 1e-6), math.floor(min(columns) + 1e-6)
    bottom, right = math.ceil(max(rows) - 1e-6), math.ceil(max(columns) - 1e-6)
    return Window(row, column, bottom - row, right - column).intersection(grid.window)


def _bounds_in(raster: Raster, grid: Grid) -> tuple[float, float, float, float]:
    """Return the outline of a raster in the CRS of a grid."""
    bounds = raster.grid.bounds
    if raster.grid.crs == grid.crs:
        return bounds
    try:
        found = transform_bounds(raster.grid.crs, grid.crs, *bounds)
    except CRSError as error:
        raise UserError(
            f"'{raster.name}' cannot be brought into the CRS of the other raster ({error}). Warp it in QGIS with "
            f"'Warp (reproject)', then choose the result under '{control(raster.field)}'.",
            raster.field,
        ) from error
    return tuple(found)


def _distance(grid: Grid, bounds: tuple[float, float, float, float]) -> str:
    """Say how much ground lies between a grid and an outline, for people."""
    west, south, east, north = grid.bounds
    across = max(bounds[0] - east, west - bounds[2], 0)
    along = max(bounds[1] - north, south - bounds[3], 0)
    metres = math.hypot(across, along) / math.sqrt(abs(grid.transform.determinant)) * grid.gsd
    return f"about {metres / 1000:,.1f} km" if metres >= 1000 else f"about {metres:,.0f} m"


def _notes(earlier: Raster, later: Raster, window: Window) -> list[str]:
    """Say what is done about grids that differ by more than a pixel over the overlap."""
    grid, other = earlier.grid, later.grid
    rows = np.array([0, 0, window.height, window.height]) + window.row
    columns = np.array([0, window.width, 0, window.width]) + window.column
    found_rows, found_columns = to_pixels(grid, other, rows, columns)
    bend_rows, bend_columns = found_rows - rows, found_columns - columns
    bend = max(np.ptp(bend_rows), np.ptp(bend_columns))
    if bend <= 1:
        return []
    crs = "" if grid.crs == other.crs else f" and CRS ({_crs_name(grid)} and {_crs_name(other)})"
    scale = relative_pixel(other, grid)
    return [
        f"The two rasters have different grids{crs}: a pixel of '{earlier.name}' spans {scale:.3g} pixels of "
        f"'{later.name}', which was resampled onto the grid of '{earlier.name}'."
    ]


def _crs_name(grid: Grid) -> str:
    code = grid.crs.to_epsg() if grid.crs else None
    return f"EPSG:{code}" if code else "a CRS of its own"
