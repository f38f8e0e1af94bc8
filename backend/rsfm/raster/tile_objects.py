"""Square tiles that are classified as wholes, counted from the raster's pixel (0, 0).

Shape letters: N tiles, M pixels, R rows and T columns of tiles.
"""

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes

from rsfm.raster.area import Area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.pooled_object import Pairs


class TileObjects:
    """The tiles that an area touches; a tile is classified as a whole, so that a part is a part of the whole map.

    Attributes:
        tiles: rows and columns of tiles that enclose the area, in tiles.
        wanted_RT: which of them the area touches.
        end_N, area: as `Objects` says; tiles are counted row by row.
    """

    def __init__(self, grid: Grid, side: int, area: Area) -> None:
        """Cut what an area touches into tiles of `side` pixels."""
        self._side, self._grid = side, grid
        self.tiles = area.window.cells(side)
        self.wanted_RT = _wanted(area, self.tiles, side)
        rows = np.repeat(np.arange(self.tiles.height), self.tiles.width)
        self.end_N = np.minimum((rows + self.tiles.row + 1) * side, grid.height)
        window = Window(*(value * side for value in self.tiles)).intersection(grid.window)
        self.area = Area(window, None if self.wanted_RT.all() else self._outlines())

    def find(self, window: Window) -> Pairs:
        """Find the pixels of tiles in a window."""
        window = window.intersection(self.area.window)
        tile_rows = np.arange(window.row, window.row + window.height) // self._side - self.tiles.row
        tile_columns = np.arange(window.column, window.column + window.width) // self._side - self.tiles.column
        wanted_HW = self.wanted_RT[tile_rows[:, None], tile_columns[None]]
        rows, columns = np.nonzero(wanted_HW)
        objects = tile_rows[rows] * self.tiles.width + tile_columns[columns]
        return Pairs(rows + window.row, columns + window.column, objects)

    def beyond(self) -> NDArray[np.float64]:
        """Return how many pixels of each tile lie beyond the raster's edge."""
        rows = np.arange(self.tiles.row, self.tiles.row + self.tiles.height) * self._side
        columns = np.arange(self.tiles.column, self.tiles.column + self.tiles.width) * self._side
        heights = np.minimum(self._grid.height - rows, self._side)
        widths = np.minimum(self._grid.width - columns, self._side)
        return np.asarray((self._side**2 - heights[:, None] * widths[None]).ravel(), np.float64)

    def _outlines(self) -> shapely.STRtree:
        """Return the outlines of the tiles that are wanted, in columns and rows of the raster."""
        found = shapes(self.wanted_RT.astype(np.uint8), mask=self.wanted_RT, connectivity=4)
        corner = np.array([self.tiles.column, self.tiles.row])
        polygons = [_polygon(*geometry["coordinates"]) for geometry, _ in found]
        moved = shapely.transform(np.array(polygons, object), lambda points_N2: (points_N2 + corner) * self._side)
        return shapely.STRtree(moved)


def _wanted(area: Area, tiles: Window, side: int) -> NDArray[np.bool_]:
    """Tell which tiles an area touches."""
    shape = (tiles.height, tiles.width)
    if area.outlines is None:
        return np.ones(shape, bool)
    outlines = shapely.transform(
        area.outlines.geometries, lambda points_N2: points_N2 / side - [tiles.column, tiles.row]
    )
    return np.asarray(rasterize(outlines, shape, all_touched=True, dtype="uint8") > 0)


def _polygon(shell: list[tuple[float, float]], *holes: list[tuple[float, float]]) -> shapely.Polygon:
    return shapely.Polygon(shell, holes)
