"""The polygons of a layer on the pixels of a raster, and why some are not there.

Shape letters: N features.
"""

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import rasterize

from rsfm.raster.area import Area
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import reproject

NO_SHAPE, NO_POLYGON, OUTSIDE, OFF_AREA = "no geometry", "not a polygon", "outside the raster", "outside the area"
SMALL = 16
"""Polygons of fewer pixels are burnt to see whether they cover the centre of one."""


class Outlines(NamedTuple):
    """Polygons in columns and rows of a raster.

    Attributes:
        shape_N: None where there is a reason.
        reason_N: why a feature has no pixel; empty where it has.
        beyond_N: pixels of each that lie beyond the raster's edge.
        repaired, tiny: how many crossed themselves, and how many cover no centre of a pixel.
    """

    shape_N: NDArray[Any]
    reason_N: NDArray[Any]
    beyond_N: NDArray[np.float64]
    repaired: int
    tiny: int


def place_outlines(shape_N: NDArray[Any], crs: CRS, grid: Grid, area: Area | None = None) -> Outlines:
    """Bring polygons onto a raster.

    A polygon takes the pixels whose centre it covers, so that neighbours share none, or the one in its middle if it
    covers none. An outline that crosses itself is repaired.

    Args:
        shape_N: of any kind, None where a feature has none.
        area: polygons that do not touch it are left out.
    """
    shape_N = shapely.force_2d(shape_N)
    reason_N = np.full(len(shape_N), "", object)
    reason_N[shapely.is_missing(shape_N) | shapely.is_empty(shape_N)] = NO_SHAPE
    broken = np.flatnonzero((reason_N == "") & ~shapely.is_valid(shape_N))
    for index in broken:
        shape_N[index] = _repaired(shape_N[index])
    reason_N[(reason_N == "") & (shapely.get_dimensions(shape_N) != 2)] = NO_POLYGON
    there = np.flatnonzero(reason_N == "")
    placed = to_pixels(_reprojected(shape_N[there], crs, grid.crs or crs), grid)
    frame = shapely.box(0, 0, grid.width, grid.height)
    finite = np.isfinite(shapely.bounds(placed)).all(axis=1)
    outside: NDArray[np.bool_] = np.logical_not(finite)
    outside[finite] = ~shapely.intersects(placed[finite], frame)
    reason_N[there[outside]] = OUTSIDE
    there, placed = there[~outside], placed[~outside]
    beyond_N, kept_N = np.zeros(len(shape_N)), np.full(len(shape_N), None, object)
    across = ~shapely.covers(frame, placed)
    if across.any():
        inner = shapely.intersection(shapely.make_valid(placed[across]), frame)
        beyond_N[there[across]] = shapely.area(placed[across]) - shapely.area(inner)
    kept_N[there] = placed
    tiny = _take_middles(kept_N, there, reason_N, grid)
    if area is not None:
        _leave_out(kept_N, reason_N, area)
    return Outlines(kept_N, reason_N, beyond_N, len(broken), tiny)


def to_pixels(shape_N: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Express shapes of a raster's CRS in its columns and rows."""
    a, b, c, d, e, f = (~grid.transform)[:6]
    found: NDArray[Any] = shapely.transform(
        shape_N,
        lambda points_N2: np.stack(
            [a * points_N2[:, 0] + b * points_N2[:, 1] + c, d * points_N2[:, 0] + e * points_N2[:, 1] + f], axis=1
        ),
    )
    return found


def _repaired(shape: Any) -> Any:
    """Mend an outline, and keep what has an area where there is any."""
    parts = [part for part in shapely.get_parts(shapely.make_valid(shape)) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(parts) if parts else shapely.make_valid(shape)


def _reprojected(shape_N: NDArray[Any], source: CRS, target: CRS) -> NDArray[Any]:
    """Reproject all at once, or one by one where some have no place in the target."""
    if source == target or not len(shape_N):
        return shape_N
    together = reproject([shapely.geometrycollections(shape_N)], source, target)[0]
    if np.isfinite(shapely.bounds(together)).all():
        return np.asarray(shapely.get_parts(together), object)
    return np.array(reproject(list(shape_N), source, target), object)


def _take_middles(shape_N: NDArray[Any], there: NDArray[np.int64], reason_N: NDArray[Any], grid: Grid) -> int:
    """Put the pixel in its middle in the place of each polygon that covers no centre, and count them."""
    left, top, right, bottom = np.clip(shapely.bounds(shape_N[there]), 0, [grid.width, grid.height] * 2).T
    without = (np.round(right) <= np.round(left)) | (np.round(bottom) <= np.round(top))
    small = ~without & (shapely.area(shape_N[there]) < SMALL)
    for at in np.flatnonzero(small):
        without[at] = not _covers_a_centre(shape_N[there[at]], left[at], top[at], right[at], bottom[at])
    frame = shapely.box(0, 0, grid.width, grid.height)
    for index in there[without]:
        point = shapely.point_on_surface(shapely.intersection(shapely.make_valid(shape_N[index]), frame))
        column = min(int(shapely.get_x(point)), grid.width - 1)
        row = min(int(shapely.get_y(point)), grid.height - 1)
        shape_N[index] = shapely.box(column, row, column + 1, row + 1)
    return int(without.sum())


def _covers_a_centre(shape: Any, left: float, top: float, right: float, bottom: float) -> bool:
    column, row = int(left), int(top)
    size = int(np.ceil(bottom)) - row, int(np.ceil(right)) - column
    return bool(rasterize([shapely.transform(shape, lambda at: at - [column, row])], size, dtype="uint8").any())


def _leave_out(shape_N: NDArray[Any], reason_N: NDArray[Any], area: Area) -> None:
    """Leave out what does not touch an area."""
    window = area.window
    box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
    there = np.flatnonzero(reason_N == "")
    touches = shapely.intersects(shape_N[there], box)
    if area.outlines is not None:
        near = area.outlines.query(shape_N[there], predicate="intersects")[0]
        touches &= np.isin(np.arange(len(there)), near)
    reason_N[there[~touches]] = OFF_AREA
    shape_N[there[~touches]] = None
