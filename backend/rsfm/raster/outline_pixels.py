"""Which pixels belong to which polygon, window by window.

Shape letters: N polygons, M pairs of a pixel and a polygon, H rows, W columns.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.enums import MergeAlg
from rasterio.features import rasterize

from rsfm.raster.area import Area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.pooled_object import Indices, Pairs


class OutlinePixels:
    """The pixels whose centre polygons cover; a pixel of two polygons belongs to both.

    Attributes:
        end_N, area: as `Objects` says.
    """

    def __init__(self, shape_N: NDArray[Any], grid: Grid) -> None:
        """Take polygons in columns and rows of a raster; None is one without pixels."""
        self._index_P = np.flatnonzero(~shapely.is_missing(shape_N))
        self._shape_P = shape_N[self._index_P]
        tree = shapely.STRtree(self._shape_P)
        left, top, right, bottom = shapely.bounds(self._shape_P).T
        self.end_N = np.zeros(len(shape_N), np.int64)
        self.end_N[self._index_P] = np.clip(np.ceil(bottom), 0, grid.height).astype(np.int64)
        row, column = (int(np.floor(side.min(initial=np.inf))) if len(side) else 0 for side in (top, left))
        end, width = (int(np.ceil(side.max())) if len(side) else 0 for side in (bottom, right))
        whole = Window(row, column, end - row, width - column).intersection(grid.window)
        self.area = Area(whole, tree)

    def find(self, window: Window) -> Pairs:
        """Find the pixels of polygons in a window: in one go where polygons do not overlap, else one by one."""
        box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
        tree = self.area.outlines
        near = np.sort(tree.query(box)) if tree is not None else np.empty(0, np.int64)
        if not len(near):
            nothing = np.empty(0, np.int64)
            return Pairs(nothing, nothing, nothing)
        shapes = shapely.transform(self._shape_P[near], lambda points_N2: points_N2 - [window.column, window.row])
        shape = (window.height, window.width)
        last_HW = rasterize(zip(shapes, range(1, len(near) + 1), strict=True), shape, dtype="int32")
        times_HW = rasterize(shapes, shape, merge_alg=MergeAlg.add, dtype="int32")
        rows, columns = np.nonzero(times_HW == 1)
        found = [(rows, columns, self._index_P[near[last_HW[rows, columns] - 1]])]
        shared_HW = times_HW > 1
        if shared_HW.any():
            several = np.flatnonzero(_touch(shapes, shared_HW))
            found += [_shared(shapes[at], shared_HW, int(self._index_P[near[at]])) for at in several]
        row_M, column_M, object_M = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(row_M, kind="stable")
        return Pairs(row_M[order] + window.row, column_M[order] + window.column, object_M[order])


def _touch(shapes: NDArray[Any], shared_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which shapes have a shared pixel in the rectangle around them."""
    left, top, right, bottom = _rectangles(shapes, shared_HW).T
    sums_HW = np.pad(shared_HW.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int64), ((1, 0), (1, 0)))
    within = sums_HW[bottom, right] - sums_HW[top, right] - sums_HW[bottom, left] + sums_HW[top, left]
    return np.asarray(within > 0)


def _shared(shape: Any, shared_HW: NDArray[np.bool_], number: int) -> tuple[Indices, Indices, Indices]:
    """Return the shared pixels of a shape."""
    left, top, right, bottom = _rectangles(np.array([shape], object), shared_HW)[0]
    moved = shapely.transform(shape, lambda points_N2: points_N2 - [left, top])
    burnt_HW = rasterize([moved], (bottom - top, right - left), dtype="uint8") > 0
    rows, columns = np.nonzero(burnt_HW & shared_HW[top:bottom, left:right])
    return rows + top, columns + left, np.full(len(rows), number)


def _rectangles(shapes: NDArray[Any], within_HW: NDArray[Any]) -> NDArray[np.int64]:
    """Return left, top, right and bottom of the pixels around shapes, in an array."""
    height, width = within_HW.shape
    bounds_N4 = shapely.bounds(shapes)
    bounds_N4[:, :2], bounds_N4[:, 2:] = np.floor(bounds_N4[:, :2]), np.ceil(bounds_N4[:, 2:])
    return np.clip(bounds_N4, 0, [width, height, width, height]).astype(np.int64)
