"""Polygons of the objects of a raster: along the edges of the pixels, without gaps and overlaps between neighbours.

They are traced strip by strip, in whole pixels, and an object is joined and written as soon as its last strip is done.

Shape letters: H rows, W columns, N polygons.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyogrio
import rasterio
import shapely
from rasterio.windows import Window as FileWindow

from rsfm.errors import UserError
from rsfm.raster.borders import BorderFinder, fill_holes, join_small
from rsfm.raster.geopackage import GEOPACKAGE
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.objects import ObjectFinder, Objects
from rsfm.raster.tracing import Smoothing, Tracer

STRIP_PIXELS = 2**22
MOST_POLYGONS = 2_000_000
"""Patches of classes, before those join that a seam cut; more would not fit in memory, and nobody could use them."""
BATCH = 20_000
"""Polygons kept before they are written."""


class Outlines(NamedTuple):
    """How polygons are drawn.

    Attributes:
        minimum_area: m², before smoothing; smaller objects join the neighbour with the longest common border.
        fill_holes: m²; what a polygon encloses joins it where all of that is smaller. Nodata stays a hole.
        smoothing: m; smaller bends of the outlines are left out, 0 keeps the edges of the pixels.
    """

    minimum_area: float = 0
    fill_holes: float = 0
    smoothing: float = 0


ALONG_PIXELS = Outlines()


class TooManyPolygons(UserError):
    """The classes are too scattered for polygons; their raster is as good as ever."""


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
            **GEOPACKAGE,
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
    outlines: Outlines = ALONG_PIXELS,
    value_field: str = "class",
    done: Callable[[float], None] = lambda part: None,
    confidence_path: Path | None = None,
) -> int:
    """Turn a raster of classes into polygons with class, name and area_m2, and return their number.

    Neighbours share their edges, with all vertices; together they cover the valid pixels, smoothed or not. Areas are
    those of the polygons on the ellipsoid.

    Args:
        classes_path: one band of whole numbers; its nodata makes no polygon.
        names: class -> name; a class without one is called by its number.
        done: told from time to time which part is done; what it raises ends the work and leaves no file.
        confidence_path: raster of the same grid, whose mean over the pixels of each polygon is added.

    Raises:
        TooManyPolygons: the classes are too scattered.
    """
    with ExitStack() as stack:
        dataset = stack.enter_context(rasterio.open(classes_path))
        confidence = stack.enter_context(rasterio.open(confidence_path)) if confidence_path else None
        source = _Source(dataset, confidence, outlines)
        objects = _find(source, lambda part: done(part / 2))
        tracer = Tracer(objects.last_row_N, source.smoothing)
        fields = [value_field, "name", "area_m2", *(["confidence"] if confidence else [])]
        writer = stack.enter_context(PolygonWriter(output_path, source.grid, fields))
        for index, numbers_HW, below_W in _numbered(source, objects):
            found = list(tracer.add(numbers_HW, below_W))
            areas = source.areas.of_polygons(np.array([polygon for _, polygon in found], object))
            for (number, polygon), area in zip(found, areas, strict=True):
                value = int(objects.value_N[number - 1]) - 1
                mean = [round(objects.weight_N[number - 1] / objects.pixels_N[number - 1], 4)] if confidence else []
                writer.add(polygon, value, names.get(value, str(value)), round(area, 3), *mean)
            done((1 + (index + 1) / len(source.strips)) / 2)
        return writer.count


class _Source:
    """Classes and confidence, strip by strip."""

    def __init__(
        self, dataset: rasterio.DatasetReader, confidence: rasterio.DatasetReader | None, outlines: Outlines
    ) -> None:
        self._dataset, self._confidence, self.outlines = dataset, confidence, outlines
        self.grid = Grid(dataset.crs or None, dataset.transform, dataset.height, dataset.width)
        self.areas = GroundArea(self.grid)
        height = max(1, STRIP_PIXELS // self.grid.width)
        rows = range(0, self.grid.height, height)
        self.strips = [Window(row, 0, min(height, self.grid.height - row), self.grid.width) for row in rows]
        self.sides = self.grid.pixel_sides
        centre = self.areas.read(Window(self.grid.height // 2, self.grid.width // 2, 1, 1))[0, 0]
        scale = math.sqrt(centre / self.grid.pixel_area)  # of the map, which may enlarge the ground
        self.smoothing = (
            Smoothing(outlines.smoothing, *(side * scale for side in self.sides)) if outlines.smoothing > 0 else None
        )

    def read(self, index: int) -> np.ndarray:
        """Return the classes of a strip, plus 1, with 0 for nodata.

        Small objects have joined others, but for those that go on in the next strip: it takes the whole raster to tell
        how large they are. So noise makes no more objects than there is room for.
        """
        strip, minimum = self.strips[index], self.outlines.minimum_area
        classes_HW = self._dataset.read(1, window=_file_window(strip))
        values_HW = classes_HW.astype(np.int32) + 1
        if self._dataset.nodata is not None:
            values_HW[classes_HW == self._dataset.nodata] = 0
        if minimum <= 0:
            return np.asarray(values_HW)
        finder = ObjectFinder(borders := BorderFinder(self.sides))
        finder.add(values_HW, self.areas.read(strip))
        objects = finder.finish()
        numbers_HW = objects.label(0, values_HW)
        fixed_M = np.zeros(len(objects) + 1, bool)
        fixed_M[numbers_HW[0]] |= index > 0
        fixed_M[numbers_HW[-1]] |= index + 1 < len(self.strips)
        value_M = np.append(0, objects.value_N)
        into_M = join_small(
            value_M, np.append(0, objects.area_N), borders.finish().renumber(objects.number_L), minimum, fixed_M
        )
        return np.asarray(value_M[into_M][numbers_HW])

    def read_confidence(self, index: int) -> np.ndarray | None:
        if self._confidence is None:
            return None
        return np.asarray(self._confidence.read(1, window=_file_window(self.strips[index])))


def _find(source: _Source, done: Callable[[float], None]) -> Objects:
    """Find the objects; small ones and holes join others."""
    outlines, borders = source.outlines, BorderFinder(source.sides)
    joins = outlines.minimum_area > 0 or outlines.fill_holes > 0
    finder = ObjectFinder(borders if joins else None)
    for index, strip in enumerate(source.strips):
        finder.add(source.read(index), source.areas.read(strip), source.read_confidence(index))
        if len(finder) > MOST_POLYGONS:
            raise TooManyPolygons(
                f"The map has more than {MOST_POLYGONS:,} patches, too many for polygons. Choose a larger 'Minimum "
                "Area', or map a part under 'Area'.",
                "minimum_area",
            )
        done((index + 1) / len(source.strips))
    objects = finder.finish()
    if not joins:
        return objects
    found = borders.finish()
    if outlines.minimum_area > 0:
        value_M, area_M = np.append(0, objects.value_N), np.append(0, objects.area_N)
        into_M = join_small(value_M, area_M, found.renumber(objects.number_L), outlines.minimum_area)
        objects = objects.join(into_M)
    if outlines.fill_holes > outlines.minimum_area:
        area_M = np.append(0, objects.area_N)
        objects = objects.join(fill_holes(area_M, found.renumber(objects.number_L), outlines.fill_holes))
    return objects


def _numbered(source: _Source, objects: Objects) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Give the index of each strip, the numbers of its objects, and the first row of those of the next."""
    numbers_HW = objects.label(0, source.read(0))
    for index in range(len(source.strips)):
        last = index + 1 == len(source.strips)
        next_HW = None if last else objects.label(index + 1, source.read(index + 1))
        yield index, numbers_HW, None if next_HW is None else next_HW[0]
        if next_HW is not None:
            numbers_HW = next_HW


def _file_window(strip: Window) -> FileWindow:
    return FileWindow(strip.column, strip.row, strip.width, strip.height)
