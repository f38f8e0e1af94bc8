"""Polygons of the objects of a raster: along the edges of the pixels, without gaps and overlaps between neighbours.

They are traced strip by strip, in whole pixels, and an object is joined and written as soon as its last strip is done.

Shape letters: H rows, W columns, N polygons.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.features import shapes, sieve
from rasterio.windows import Window as FileWindow

from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.objects import ObjectFinder, Objects

STRIP_PIXELS = 2**23
BATCH = 20_000
"""Polygons kept before they are written."""


class Tracer:
    """Makes polygons, in pixels (column, row), of numbered objects; takes strips from top to bottom."""

    def __init__(self, last_row_N: np.ndarray) -> None:
        self._last_row_N = last_row_N
        self._row = 0
        self._open: dict[int, list[shapely.Polygon]] = {}

    def add(self, numbers_HW: np.ndarray) -> Iterator[tuple[int, shapely.Geometry]]:
        """Take the next strip and return the polygons that are complete, with their numbers."""
        for geometry, number in shapes(numbers_HW, mask=numbers_HW > 0, connectivity=4):
            self._open.setdefault(int(number), []).append(_polygon(geometry["coordinates"], self._row))
        self._row += len(numbers_HW)
        complete = [number for number in self._open if self._last_row_N[number - 1] < self._row]
        for number in complete:
            yield number, _joined(self._open.pop(number))


class PolygonWriter:
    """Writes polygons with attributes to a GeoPackage, which stands at its path once it is complete."""

    def __init__(self, path: Path, grid: Grid, fields: Sequence[str]) -> None:
        """Prepare the file; polygons are given in pixels of `grid`."""
        self.path, self._grid, self._fields = path, grid, list(fields)
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._partial.unlink(missing_ok=True)
        self._polygons: list[shapely.Geometry] = []
        self._rows: list[tuple[object, ...]] = []
        self._started = False
        self.count = 0

    def __enter__(self) -> "PolygonWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write()
                os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def add(self, polygon: shapely.Geometry, *attributes: object) -> None:
        """Take a polygon; None as an attribute is an empty one."""
        self._polygons.append(polygon)
        self._rows.append(attributes)
        self.count += 1
        if len(self._rows) >= BATCH:
            self._write()

    def _write(self) -> None:
        if self._started and not self._rows:
            return
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._fields)
        pyogrio.raw.write(
            self._partial,
            shapely.to_wkb(shapely.transform(np.array(self._polygons, object), self._to_map)),
            [np.array(column) for column in columns],
            self._fields,
            layer=self.path.stem,
            driver="GPKG",
            geometry_type="Polygon",
            crs=self._grid.crs.to_wkt() if self._grid.crs else None,
            append=self._started,
        )
        self._polygons, self._rows, self._started = [], [], True

    def _to_map(self, pixels_N2: np.ndarray) -> np.ndarray:
        a, b, c, d, e, f = self._grid.transform[:6]
        columns, rows = pixels_N2.T
        return np.stack([a * columns + b * rows + c, d * columns + e * rows + f], axis=1)


def polygonise(
    classes_path: Path,
    output_path: Path,
    names: Mapping[int, str],
    minimum_area_m2: float = 0,
    value_field: str = "class",
    done: Callable[[float], None] = lambda part: None,
) -> int:
    """Turn a raster of classes into polygons with class, name and area_m2, and return their number.

    Polygons smaller than the minimum join their largest neighbour, so no gap is left; one that only borders nodata
    stays. Neighbours share their edges; the areas are those of the pixels on the ellipsoid and add up.

    Args:
        classes_path: one band of whole numbers; its nodata makes no polygon.
        names: class -> name; a class without one is called by its number.
        done: told from time to time which part is done; what it raises ends the work and leaves no file.
    """
    with rasterio.open(classes_path) as dataset:
        grid = Grid(dataset.crs or None, dataset.transform, dataset.height, dataset.width)
        read = _reader(dataset, math.ceil(minimum_area_m2 / grid.pixel_area))
        strips = _strips(grid)
        objects = _find(strips, read, GroundArea(grid), lambda part: done(part / 2))
        tracer = Tracer(objects.last_row_N)
        with PolygonWriter(output_path, grid, [value_field, "name", "area_m2"]) as writer:
            for index, strip in enumerate(strips):
                for number, polygon in tracer.add(objects.label(index, read(strip))):
                    value = int(objects.value_N[number - 1]) - 1
                    writer.add(polygon, value, names.get(value, str(value)), objects.area_N[number - 1])
                done((1 + (index + 1) / len(strips)) / 2)
        return writer.count


def _find(
    strips: list[Window], read: Callable[[Window], np.ndarray], areas: GroundArea, done: Callable[[float], None]
) -> Objects:
    finder = ObjectFinder()
    for index, strip in enumerate(strips):
        finder.add(read(strip), areas.read(strip))
        done((index + 1) / len(strips))
    return finder.finish()


def _strips(grid: Grid) -> list[Window]:
    height = max(1, STRIP_PIXELS // grid.width)
    rows = range(0, grid.height, height)
    return [Window(row, 0, min(height, grid.height - row), grid.width) for row in rows]


def _reader(dataset: rasterio.DatasetReader, fewest: int) -> Callable[[Window], np.ndarray]:
    """Return what reads the classes of a strip, plus 1, with 0 for nodata.

    To merge small polygons the whole raster is needed, two bytes a pixel; else nothing is kept.
    """
    if fewest <= 1:
        return lambda strip: _shifted(dataset.read(1, window=_file_window(strip)), dataset.nodata)
    classes = dataset.read(1)
    valid = np.ones(classes.shape, bool) if dataset.nodata is None else classes != dataset.nodata
    sieve(classes, fewest, out=classes, mask=valid, connectivity=4)
    return lambda strip: _shifted(classes[strip.row : strip.row + strip.height], dataset.nodata)


def _shifted(classes_HW: np.ndarray, nodata: float | None) -> np.ndarray:
    shifted_HW = classes_HW.astype(np.int32) + 1
    if nodata is not None:
        shifted_HW[classes_HW == nodata] = 0
    return shifted_HW


def _file_window(strip: Window) -> FileWindow:
    return FileWindow(strip.column, strip.row, strip.width, strip.height)


def _polygon(rings: list[list[tuple[float, float]]], row: int) -> shapely.Polygon:
    shell, *holes = (np.asarray(ring) + np.array([0, row]) for ring in rings)
    return shapely.Polygon(shell, holes)


def _joined(parts: list[shapely.Polygon]) -> shapely.Geometry:
    """Join the parts of one object; simplifying by nothing takes away corners that the seams left on straight edges."""
    return parts[0] if len(parts) == 1 else shapely.simplify(shapely.union_all(parts), 0)
