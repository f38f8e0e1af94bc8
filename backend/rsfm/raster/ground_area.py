"""Square metres on the ellipsoid that each pixel covers, whatever the CRS does to areas.

The ellipsoid is mapped onto a cylinder that keeps areas (Snyder, 1987, "Map Projections: A Working Manual", USGS
Professional Paper 1395, equations 3-11 to 3-13, 10-13), where a pixel is a polygon with four corners.
"""

import math

import numpy as np
import shapely
from rasterio.warp import transform as transform_coordinates

from rsfm.raster.grid import Grid, Window
from rsfm.raster.resampled import to_map

SEMI_MAJOR_AXIS = 6378137.0
"""Metres, WGS 84."""
ECCENTRICITY = 0.0818191908426215
PLACES, SPACING = 257, 64
"""The area is computed at this many rows and columns, or at every so many pixels if that is more, and interpolated."""

GAUSS = (0.5 - math.sqrt(0.15), 5 / 18), (0.5, 8 / 18), (0.5 + math.sqrt(0.15), 5 / 18)
"""Where on the way along an edge a function is looked at, and with which weight, to integrate it."""


class GroundArea:
    """The areas of the pixels of a grid; without a CRS, map units count as metres.

    Where the CRS has no place on the ground, the areas of the nearest pixels of the row are taken.
    """

    def __init__(self, grid: Grid) -> None:
        self._rows, self._columns = _places(grid.height), _places(grid.width)
        if grid.crs is None:
            self._areas = np.full((len(self._rows), len(self._columns)), grid.pixel_area)
        else:
            self._areas = _filled(_corner_areas(grid, self._rows, self._columns))
        self._width = grid.width

    def read(self, window: Window) -> np.ndarray:
        """Return the areas of the pixels of a window, areas_HW, float64."""
        above, below, down = _neighbours(self._rows, window.row + np.arange(window.height))
        left, right, across = _neighbours(self._columns, window.column + np.arange(window.width))
        by_row = self._areas[above] * (1 - down[:, None]) + self._areas[below] * down[:, None]
        return np.asarray(by_row[:, left] * (1 - across) + by_row[:, right] * across)

    def of_polygons(self, polygons_N: np.ndarray) -> np.ndarray:
        """Return the areas of polygons given in pixels (column, row), areas_N, with edges straight on the grid.

        Green's theorem: the area is the integral along the rings of what lies between them and the first column.
        """
        if not len(polygons_N):
            return np.zeros(0)
        _, points_V2, (rings, polygons) = shapely.to_ragged_array(polygons_N)
        columns, rows = points_V2.T
        part = np.zeros(len(points_V2))  # of the edge from each vertex to the next
        edges = np.flatnonzero(np.diff(rows, append=rows[-1:]))
        down, right = rows[edges + 1] - rows[edges], columns[edges + 1] - columns[edges]
        for place, weight in GAUSS:
            part[edges] += weight * down * self._west_of(rows[edges] + place * down, columns[edges] + place * right)
        part[rings[1:] - 1] = 0  # from the end of a ring there is no edge to the next
        area_R = np.abs(np.add.reduceat(part, rings[:-1]))
        area_R[np.setdiff1d(np.arange(len(area_R)), polygons[:-1])] *= -1  # holes
        return np.asarray(np.add.reduceat(area_R, polygons[:-1]))

    def _west_of(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the area between the first column and places, for one row of height there."""
        knots = np.concatenate([[0], self._columns + 0.5, [self._width]])
        density = np.pad(self._areas, ((0, 0), (1, 1)), mode="edge")
        width = np.diff(knots)
        total = np.pad(np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * width, axis=1), ((0, 0), (1, 0)))
        slope = np.diff(density, axis=1) / width
        above, below, between = _neighbours(self._rows, rows - 0.5)
        cell = np.clip(np.searchsorted(knots, columns, side="right") - 1, 0, len(width) - 1)
        past = columns - knots[cell]
        first, last = (
            total[at, cell] + past * (density[at, cell] + past / 2 * slope[at, cell]) for at in (above, below)
        )
        return np.asarray(first * (1 - between) + last * between)


def _filled(areas: np.ndarray) -> np.ndarray:
    for row in areas:
        known = np.flatnonzero(np.isfinite(row))
        row[:] = np.interp(np.arange(len(row)), known, row[known]) if len(known) else 0
    return areas


def _neighbours(places: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places before and after pixels and the part of the way between."""
    at = np.interp(pixels, places, np.arange(len(places)))
    before = at.astype(int)
    return before, np.minimum(before + 1, len(places) - 1), at - before


def _places(size: int) -> np.ndarray:
    """Return pixels, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, max(PLACES, size // SPACING)).round())


def _corner_areas(grid: Grid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compute the areas of the pixels at rows x columns from their four corners, by the surveyor's formula."""
    row_RC, column_RC = np.meshgrid(rows, columns, indexing="ij")
    corners = [(0, 0), (0, 1), (1, 1), (1, 0)]
    row_4RC = np.stack([row_RC + down for down, _ in corners])
    column_4RC = np.stack([column_RC + right for _, right in corners])
    x_4RC, y_4RC = to_map(grid, row_4RC, column_4RC)
    longitude, latitude = transform_coordinates(grid.crs, "EPSG:4326", x_4RC.ravel(), y_4RC.ravel())
    return quad_areas(np.reshape(longitude, row_4RC.shape), np.reshape(latitude, row_4RC.shape))


def quad_areas(longitude_4N: np.ndarray, latitude_4N: np.ndarray) -> np.ndarray:
    """Return square metres of polygons of four corners in degrees, areas_N of any shape."""
    east_4N = np.unwrap(np.radians(longitude_4N), axis=0)  # a pixel may touch the date line
    up_4N = _cylinder_height(np.radians(latitude_4N))
    east_4N, up_4N = east_4N - east_4N[0], up_4N - up_4N[0]  # small numbers keep their digits
    twice = (east_4N * np.roll(up_4N, -1, 0) - np.roll(east_4N, -1, 0) * up_4N).sum(0)
    return np.asarray(np.abs(twice) / 2)


def _cylinder_height(latitude: np.ndarray) -> np.ndarray:
    """Return the height at which a parallel lies on the equal-area cylinder, in square metres a radian."""
    e, sine = ECCENTRICITY, np.sin(latitude)
    q = (1 - e**2) * (sine / (1 - e**2 * sine**2) + np.arctanh(e * sine) / e)
    return np.asarray(SEMI_MAJOR_AXIS**2 * q / 2)
