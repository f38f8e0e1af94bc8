"""Where on the ground a window lies, and how large its pixels are there.

Shape letters: P points (or boxes), N windows, Q boxes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rasterio.warp import transform as transform_coordinates

from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import quad_areas

HALF_TURN = 180.0
METRES_OF_A_DEGREE = 111_320.0
DOWN_P = np.array([0, -1, -1, 1, 1, 0, 0, -1, 1, 0, 0, 0, 0]) / 2
RIGHT_P = np.array([0, -1, 1, 1, -1, -1, 1, 0, 0, 0, 0, 0, 0]) / 2
"""Centre, corners and middles of the sides of a window, as parts of its height and width from its centre."""
DOWN_PIXEL_P = np.array([*[0] * 9, -1, -1, 1, 1]) / 2
RIGHT_PIXEL_P = np.array([*[0] * 9, -1, 1, 1, -1]) / 2
"""Corners of a pixel at the centre."""


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
    return spots([(grid, window)])[0]


def spots(windows: Sequence[tuple[Grid, Window]]) -> list[Spot]:
    """Find where windows of grids lie; those of one CRS are projected together."""
    alike: dict[int, list[int]] = {}
    for number, (grid, _) in enumerate(windows):
        alike.setdefault(id(grid.crs), []).append(number)
    found: dict[int, Spot] = {}
    for numbers in alike.values():
        grids = [windows[number][0] for number in numbers]
        x_PN, y_PN = _points(grids, [windows[number][1] for number in numbers])
        if grids[0].crs is None:
            made = _without_crs(x_PN / METRES_OF_A_DEGREE, y_PN / METRES_OF_A_DEGREE, [grid.gsd for grid in grids])
        else:
            longitude, latitude = transform_coordinates(grids[0].crs, "EPSG:4326", x_PN.ravel(), y_PN.ravel())
            made = _in_degrees(np.reshape(longitude, x_PN.shape), np.reshape(latitude, x_PN.shape))
        found.update(zip(numbers, made, strict=True))
    return [found[number] for number in range(len(windows))]


def _points(grids: Sequence[Grid], windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Return in map units windows' centres, eight places along their edges, the corners of their middle pixels."""
    row_N, column_N, height_N, width_N = np.array(windows, float).T
    rows_PN = row_N + height_N / 2 + DOWN_P[:, None] * height_N + DOWN_PIXEL_P[:, None]
    columns_PN = column_N + width_N / 2 + RIGHT_P[:, None] * width_N + RIGHT_PIXEL_P[:, None]
    a_N, b_N, c_N, d_N, e_N, f_N = np.array([grid.transform[:6] for grid in grids]).T
    return a_N * columns_PN + b_N * rows_PN + c_N, d_N * columns_PN + e_N * rows_PN + f_N


def _without_crs(x_PN: np.ndarray, y_PN: np.ndarray, gsd: Sequence[float]) -> list[Spot]:
    low = zip(x_PN[1:9].min(0).tolist(), y_PN[1:9].min(0).tolist(), strict=True)
    high = zip(x_PN[1:9].max(0).tolist(), y_PN[1:9].max(0).tolist(), strict=True)
    return [Spot(math.nan, math.nan, (*a, *b), side) for a, b, side in zip(low, high, gsd, strict=True)]


def _in_degrees(longitude_PN: np.ndarray, latitude_PN: np.ndarray) -> list[Spot]:
    east_PN = longitude_PN[0] + _turn(longitude_PN - longitude_PN[0])
    west_N = _turn(east_PN[1:9].min(0))
    edges = (west_N, latitude_PN[1:9].min(0), west_N + np.ptp(east_PN[1:9], axis=0), latitude_PN[1:9].max(0))
    gsd_N = np.sqrt(quad_areas(east_PN[9:], latitude_PN[9:]))
    columns = (latitude_PN[0], _turn(longitude_PN[0]), *edges, gsd_N)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Spot(latitude, longitude, tuple(box), gsd) for latitude, longitude, *box, gsd in rows]


def overlaps(boxes_P4: np.ndarray, boxes_Q4: np.ndarray) -> np.ndarray:
    """Tell which boxes in degrees share some area, also across the date line: shared_PQ. Boxes of nan share none."""
    west_P, south_P, east_P, north_P = boxes_P4.T[..., None]
    west_Q, south_Q, east_Q, north_Q = boxes_Q4.T
    far = max(np.nanmax(boxes_P4[:, 2], initial=-HALF_TURN), np.nanmax(boxes_Q4[:, 2], initial=-HALF_TURN)) > HALF_TURN
    beside_PQ = np.zeros((len(boxes_P4), len(boxes_Q4)), bool)
    for turn in (-2 * HALF_TURN, 0.0, 2 * HALF_TURN) if far else (0.0,):
        beside_PQ |= (west_P < east_Q + turn) & (west_Q + turn < east_P)
    return np.asarray(beside_PQ & (south_P < north_Q) & (south_Q < north_P))


def _turn(degrees: np.ndarray) -> np.ndarray:
    """Bring angles to -180 to 180."""
    return (degrees + HALF_TURN) % 360 - HALF_TURN
