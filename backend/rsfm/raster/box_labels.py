"""Boxes that somebody drew, or the boxes around polygons, in pixels of rasters.

Shape letters: N boxes, F polygons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.raster.boxes import Boxes, centres, clip, make_boxes
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Parameters, read_drawing, read_outlines
from rsfm.raster.labels import choose_colours
from rsfm.raster.reader import Raster, control

FEWEST_PIXELS = 2
"""The shorter side of a box that can be learned."""
ONLY_CLASS = "object"


class BoxLabels(NamedTuple):
    """Boxes with classes.

    Attributes:
        names, colours: of the classes, sorted; the value of the first one is 1.
        rasters: the boxes of each raster, cut to it.
        notes: what was repaired or left out, as sentences.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    rasters: tuple[Boxes, ...]
    notes: tuple[str, ...]


def read_boxes(labels: str, class_field: str, rasters: Sequence[Raster], parameters: Parameters) -> BoxLabels:
    """Read the boxes around the polygons of a file, each on the raster that holds its centre.

    Args:
        labels: a vector file in any CRS, or "file|layername=name".
        class_field: attribute that holds the class; empty makes one class of all.

    Raises:
        UserError: in one sentence or two, why there is nothing to learn from.
    """
    drawings = [_read(labels, class_field, raster.grid, parameters) for raster in rasters]
    names = sorted({text for drawing in drawings for text in drawing.classes_F})
    notes = list(drawings[0].notes)
    if drawings[0].others:
        notes.append(f"{drawings[0].others} points and lines have no box and were left out.")
    found, tiny = [], 0
    for raster, drawing in zip(rasters, drawings, strict=True):
        boxes_N = _to_pixels(drawing, names, raster.grid)
        large_N = np.minimum(boxes_N["right"] - boxes_N["left"], boxes_N["bottom"] - boxes_N["top"]) >= FEWEST_PIXELS
        tiny += int((~large_N).sum())
        found.append(np.asarray(boxes_N[large_N]))
    total = sum(len(boxes_N) for boxes_N in found)
    where = f"Choose a layer of boxes on the raster under '{control(parameters.labels)}'."
    if total == 0 and tiny:
        raise UserError(
            f"All {tiny} boxes are less than {FEWEST_PIXELS} pixels wide or high on the raster. Choose a finer raster, "
            "or draw larger boxes.",
            parameters.labels,
        )
    if total == 0:
        raise UserError(f"All {len(drawings[0].classes_F)} boxes lie outside the raster. {where}", parameters.labels)
    if tiny:
        notes.append(f"{tiny} boxes are less than {FEWEST_PIXELS} pixels wide or high and were left out.")
    outside = len(drawings[0].classes_F) - total - tiny
    if outside > 0:
        notes.append(f"{outside} of {len(drawings[0].classes_F)} boxes lie outside the raster and were left out.")
    colours = choose_colours(tuple(names), drawings[0].colours)
    return BoxLabels(tuple(names), colours, tuple(found), tuple(notes))


class _Polygons(NamedTuple):
    shapes_F: NDArray[np.object_]
    classes_F: list[str]
    colours: dict[str, str]
    notes: tuple[str, ...]
    others: int


def _read(labels: str, class_field: str, grid: Grid, parameters: Parameters) -> _Polygons:
    if not class_field:
        shapes = read_outlines(labels, grid.crs, parameters)
        return _Polygons(np.array(shapes, object), [ONLY_CLASS] * len(shapes), {}, (), 0)
    drawing = read_drawing(labels, class_field, grid.crs, parameters)
    flat = [shapely.get_dimensions(shape) == 2 for shape in drawing.shapes_F]
    if not any(flat):
        raise UserError(
            f"'{drawing.name}' holds no polygon. Choose a layer of boxes under '{control(parameters.labels)}'.",
            parameters.labels,
        )
    shapes = [shape for shape, kept in zip(drawing.shapes_F, flat, strict=True) if kept]
    classes = [text for text, kept in zip(drawing.classes_F, flat, strict=True) if kept]
    return _Polygons(np.array(shapes, object), classes, drawing.colours, drawing.notes, flat.count(False))


def _to_pixels(drawing: _Polygons, names: list[str], grid: Grid) -> Boxes:
    """Return the boxes along the grid whose centre lies on the raster."""
    a, b, c, d, e, f = (~grid.transform)[:6]
    moved_F = shapely.transform(
        drawing.shapes_F,
        lambda points_N2: np.stack(
            [a * points_N2[:, 0] + b * points_N2[:, 1] + c, d * points_N2[:, 0] + e * points_N2[:, 1] + f], axis=1
        ),
    )
    bounds_F4 = shapely.bounds(moved_F)
    value_F = np.array([names.index(text) + 1 for text in drawing.classes_F])
    usable_F = np.isfinite(bounds_F4).all(axis=1)
    boxes_N = make_boxes(bounds_F4[usable_F], np.ones(int(usable_F.sum())), value_F[usable_F])
    row_N, column_N = centres(boxes_N)
    on_N = (row_N >= 0) & (row_N < grid.height) & (column_N >= 0) & (column_N < grid.width)
    return clip(boxes_N[on_N], grid.height, grid.width)
