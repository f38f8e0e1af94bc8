"""Where on the ground a window lies, and how large its pixels are there.

Shape letters: P points.
"""

import math
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform as transform_coordinates

from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import quad_areas
from rsfm.raster.resampled import to_map

HALF_TURN = 180.0
METRES_OF_A_DEGREE = 111_320.0


class Spot(NamedTuple):
    """A window on the ground.

    Attributes:
        latitude, longitude: of its centre in degrees; nan without a CRS.
        box: west, south, east, north in degrees around it; east is beyond 180 where it crosses the date line. Without
            a CRS, map units as if they were metres from 0°, 0°.
        gsd: metres a pixel at its centre, the geometric mean of both sides.
    """

    latitude: float
    longitude: float
    box: tuple[float, float, float, float]
    gsd: float


def spot(grid: Grid, window: Window) -> Spot:
    """Find where a window of a grid lies."""
    middle, centre = window.row + window.height / 2, window.column + window.width / 2
    bottom, right = window.row + window.height, window.column + window.width
    rows_P = np.array([middle, window.row, window.row, bottom, bottom, middle, middle, window.row, bottom])
    columns_P = np.array([centre, window.column, right, right, window.column, window.column, right, centre, centre])
    rows_P = np.concatenate([rows_P, middle + np.array([-0.5, -0.5, 0.5, 0.5])])
    columns_P = np.concatenate([columns_P, centre + np.array([-0.5, 0.5, 0.5, -0.5])])
    x_P, y_P = to_map(grid, rows_P, columns_P)
    if grid.crs is None:
        x_P, y_P = x_P / METRES_OF_A_DEGREE, y_P / METRES_OF_A_DEGREE
        low, high = (float(x_P[1:9].min()), float(y_P[1:9].min())), (float(x_P[1:9].max()), float(y_P[1:9].max()))
        return Spot(math.nan, math.nan, (*low, *high), grid.gsd)
    longitude_P, latitude_P = (np.asarray(v) for v in transform_coordinates(grid.crs, "EPSG:4326", x_P, y_P))
    east_P = longitude_P[0] + _turn(longitude_P - longitude_P[0])
    west = float(_turn(east_P[1:9].min()))
    east = west + float(np.ptp(east_P[1:9]))
    box = (west, float(latitude_P[1:9].min()), east, float(latitude_P[1:9].max()))
    gsd = math.sqrt(float(quad_areas(east_P[9:], latitude_P[9:])))
    return Spot(float(latitude_P[0]), float(_turn(longitude_P[0])), box, gsd)


def overlap(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Tell whether two boxes in degrees share some area, also across the date line."""
    if box[1] >= other[3] or other[1] >= box[3]:
        return False
    return any(box[0] < other[2] + turn and other[0] + turn < box[2] for turn in (-360, 0, 360))


def _turn(degrees: np.ndarray) -> np.ndarray:
    """Bring angles to -180 to 180."""
    return (degrees + HALF_TURN) % 360 - HALF_TURN
