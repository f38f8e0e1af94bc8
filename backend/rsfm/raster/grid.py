"""Where the pixels of a raster lie: its CRS, its transform, its height and width; no file is needed.

Rows are counted from the first line of the file, whether north or south is up.
"""

import math
from typing import NamedTuple

from affine import Affine
from rasterio.crs import CRS

from rsfm.errors import UserError


class Window(NamedTuple):
    """A rectangle of pixels; row and column may be negative where it reaches beyond a raster."""

    row: int
    column: int
    height: int
    width: int

    def intersection(self, other: "Window") -> "Window":
        """Return what two windows share; height or width is 0 when they share nothing."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height = min(self.row + self.height, other.row + other.height) - row
        width = min(self.column + self.width, other.column + other.width) - column
        return Window(row, column, max(height, 0), max(width, 0))

    def cells(self, stride: int) -> "Window":
        """Return the cells of `stride` pixels, counted from the raster's pixel (0, 0), that the window touches."""
        row, column = self.row // stride, self.column // stride
        bottom, right = -(-(self.row + self.height) // stride), -(-(self.column + self.width) // stride)
        return Window(row, column, bottom - row, right - column)


class Grid(NamedTuple):
    """The CRS, the transform from (column, row) to map coordinates, the height and the width of a raster."""

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, self.height, self.width)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the outline, in the units of the CRS."""
        corners = [self.transform @ (column, row) for column in (0, self.width) for row in (0, self.height)]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def gsd(self) -> float:
        """Metres a pixel: the geometric mean of both sides, at the centre of the raster."""
        return math.sqrt(self.pixel_area)

    @property
    def pixel_area(self) -> float:
        """Square metres a pixel, at the centre of the raster; map units count as metres where there is no CRS."""
        east, north = self.unit_metres
        return abs(self.transform.determinant) * east * north

    @property
    def pixel_sides(self) -> tuple[float, float]:
        """Metres from a row to the next and from a column to the next, at the centre, as `pixel_area` measures."""
        east, north = self.unit_metres
        a, b, _, d, e, _ = self.transform[:6]
        return math.hypot(b * east, e * north), math.hypot(a * east, d * north)

    def crop(self, window: Window) -> "Grid":
        """Return the grid of a window."""
        corner = Affine.translation(window.column, window.row)
        return Grid(self.crs, self.transform @ corner, window.height, window.width)

    def shrink(self, factor: int) -> "Grid":
        """Return the grid of pixels that are `factor` times as large, from the same corner, that covers this one.

        To shrink a part of a raster so that its cells are those of the whole, write
        `grid.shrink(factor).crop(window.cells(factor))`.
        """
        transform = self.transform @ Affine.scale(factor)
        return Grid(self.crs, transform, -(-self.height // factor), -(-self.width // factor))

    @property
    def unit_metres(self) -> tuple[float, float]:
        """Metres of one map unit to the east and to the north, at the centre.

        Degrees by the usual series of the WGS 84 ellipsoid (NGA STND.0036, length of a degree).
        """
        if self.crs is None:
            return 1.0, 1.0
        if not self.crs.is_geographic:
            factor = float(self.crs.linear_units_factor[1])
            return factor, factor
        degrees = math.degrees(self.crs.units_factor[1])
        _, south, _, north = self.bounds
        latitude = math.radians(max(-90.0, min(90.0, (south + north) / 2 * degrees)))
        to_north = 111132.92 - 559.82 * math.cos(2 * latitude) + 1.175 * math.cos(4 * latitude)
        to_east = 111412.84 * math.cos(latitude) - 93.5 * math.cos(3 * latitude) + 0.118 * math.cos(5 * latitude)
        return max(to_east, 1.0) * degrees, to_north * degrees


def parse_area(grid: Grid, area: str | None) -> Window:
    """Turn an area into the pixels that enclose it, cut to the raster.

    Args:
        grid: of the raster.
        area: "west,south,east,north" in the raster's CRS; None is the whole raster.

    Raises:
        UserError: malformed, or outside the raster.
    """
    if area is None:
        return grid.window
    west, south, east, north = parse_bounds(area)
    inverse = ~grid.transform
    corners = [inverse @ (x, y) for x in (west, east) for y in (south, north)]
    columns, rows = zip(*corners, strict=True)
    row, bottom = _enclose(min(rows), max(rows))
    column, right = _enclose(min(columns), max(columns))
    window = Window(row, column, bottom - row, right - column).intersection(grid.window)
    if window.height == 0 or window.width == 0:
        found = ", ".join(f"{value:.10g}" for value in (west, south, east, north))
        bounds = ", ".join(f"{value:.10g}" for value in grid.bounds)
        raise UserError(
            f"The area ({found}) lies outside the raster ({bounds}; west, south, east, north in the raster's CRS). "
            "Draw it on the raster under 'Area', or leave it empty to take the whole raster.",
            "area",
        )
    return window


def parse_bounds(area: str) -> tuple[float, float, float, float]:
    """Read "west,south,east,north".

    Raises:
        UserError: malformed.
    """
    try:
        west, south, east, north = (float(part) for part in area.split(","))
    except ValueError:
        west = south = east = north = math.nan
    if not (math.isfinite(west + south + east + north) and west < east and south < north):
        raise UserError(
            f"The area '{area}' was not understood. Give four numbers in the raster's CRS, west,south,east,north, with "
            "west below east and south below north, or draw it under 'Area'.",
            "area",
        )
    return west, south, east, north


def _enclose(first: float, last: float) -> tuple[int, int]:
    """Round outwards to whole pixels, but forgive a thousandth of a pixel, which decimal coordinates lose."""
    start, end = math.floor(first + 1e-3), math.ceil(last - 1e-3)
    return start, max(end, start + 1)
