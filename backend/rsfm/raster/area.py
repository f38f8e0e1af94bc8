"""The part of a raster that somebody asked for: a rectangle, or polygons as text or in a vector file."""

import re
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import rasterize

from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window, parse_area
from rsfm.raster.label_file import Parameters, read_outlines, reproject

LOOKED_AT_PIXELS = 2**24
"""Small areas are burnt to see whether they hold the centre of a pixel; large ones do."""
NUMBERS = re.compile(r"[\d\s.,eE+-]*")
TEXT = re.compile(r"(?:SRID=(\d+);)?\s*((?:MULTI)?POLYGON|GEOMETRYCOLLECTION)\b", re.IGNORECASE)


class Area(NamedTuple):
    """Pixels of a raster.

    Attributes:
        window: the rectangle that holds them.
        outlines: what of it is asked for, in columns and rows of the raster; None is all.
    """

    window: Window
    outlines: shapely.STRtree | None = None

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """Tell of which pixels the centre is asked for."""
        shape = (window.height, window.width)
        if self.outlines is None:
            return np.ones(shape, bool)
        right, bottom = window.column + window.width, window.row + window.height
        near = self.outlines.query(shapely.box(window.column, window.row, right, bottom), predicate="intersects")
        if not len(near):
            return np.zeros(shape, bool)
        shapes = shapely.transform(
            self.outlines.geometries[np.sort(near)], lambda points_N2: points_N2 - [window.column, window.row]
        )
        return np.asarray(rasterize(shapes, shape, dtype="uint8") > 0)


def read_area(grid: Grid, area: str | None, field: str = "area") -> Area:
    """Find the pixels that an area asks for.

    Args:
        area: "west,south,east,north" or polygons as WKT, in the raster's CRS ("SRID=4326;POLYGON ..." in another); a
            vector file in any CRS, or "file|layername=name"; None is the whole raster.

    Raises:
        UserError: it was not understood, holds no polygon, or lies outside the raster.
    """
    if area is None or NUMBERS.fullmatch(area):
        return Area(parse_area(grid, area))
    crs = grid.crs or CRS()
    shapes = _from_text(area, crs, field) if TEXT.match(area.strip()) else _from_file(area, crs, field)
    inverse = ~grid.transform
    a, b, c, d, e, f = inverse[:6]
    outlines = shapely.transform(
        np.array(shapes, object),
        lambda points_N2: np.stack(
            [a * points_N2[:, 0] + b * points_N2[:, 1] + c, d * points_N2[:, 0] + e * points_N2[:, 1] + f], axis=1
        ),
    )
    outlines = outlines[np.isfinite(shapely.bounds(outlines)).all(axis=1)]
    found = Area(_enclosing(outlines).intersection(grid.window), shapely.STRtree(outlines))
    small = found.window.height * found.window.width <= LOOKED_AT_PIXELS
    if found.window.height == 0 or found.window.width == 0 or (small and not found.inside(found.window).any()):
        raise UserError(
            "The polygons of the area hold no pixel of the raster. Draw them on the raster under 'Area', or leave it "
            "empty to take the whole raster.",
            field,
        )
    return found


def _from_text(area: str, crs: CRS, field: str) -> list[Any]:
    code, text = re.fullmatch(r"(?:SRID=(\d+);)?(.*)", area.strip(), re.IGNORECASE | re.DOTALL).groups()  # type: ignore[union-attr]
    try:
        shape = shapely.make_valid(shapely.from_wkt(text))
        own = CRS.from_epsg(int(code)) if code else crs
    except (shapely.errors.ShapelyError, CRSError) as error:
        raise UserError(
            f"The area was not understood ({str(error).rstrip('.')}). Give polygons as WKT, or draw them under 'Area'.",
            field,
        ) from error
    return reproject([part for part in shapely.get_parts(shape) if shapely.get_dimensions(part) == 2], own, crs)


def _from_file(area: str, crs: CRS, field: str) -> list[Any]:
    return read_outlines(area, crs, Parameters(labels=field))


def _enclosing(outlines: NDArray[Any]) -> Window:
    if not len(outlines):
        return Window(0, 0, 0, 0)
    left, top, right, bottom = shapely.total_bounds(outlines)
    row, column = int(np.floor(top)), int(np.floor(left))
    return Window(row, column, int(np.ceil(bottom)) - row, int(np.ceil(right)) - column)
