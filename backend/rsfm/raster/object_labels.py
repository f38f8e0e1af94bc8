"""Polygons, or squares around points, of a known class, on the pixels of a raster.

Shape letters: N objects, F simple geometries.
"""

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rsfm.errors import UserError
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Drawing, Parameters, read_drawing
from rsfm.raster.labels import MOST_CLASSES, Indices, choose_colours, look_alikes, natural_order
from rsfm.raster.outlines import NO_POLYGON, OUTSIDE, place_outlines
from rsfm.raster.reader import Raster

SAME_GROUND = 0.1
"""Objects that share more than this part of the smaller one are never on two sides of a comparison."""


class LabelledObjects(NamedTuple):
    """Objects of known classes.

    Attributes:
        names: of the classes, in natural order; colours: "#rrggbb" for each.
        shape_N: in columns and rows of the raster.
        class_N: index into names.
        group_N: objects that share ground belong to one group.
        points: some of them are squares around points.
        notes: what was repaired or left out, as sentences.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    shape_N: NDArray[Any]
    class_N: Indices
    group_N: Indices
    points: bool
    notes: tuple[str, ...]


def read_labelled_objects(labels: str, class_field: str, raster: Raster, tile: float) -> LabelledObjects:
    """Read polygons, or points, with a class; a feature of several parts is one object.

    Args:
        tile: side of the square around a point, in metres; 0 is none.

    Raises:
        UserError: in one sentence or two, why there is nothing to learn from.
    """
    drawing = read_drawing(labels, class_field, _crs(raster.grid), Parameters())
    feature_N, whole_N = _features(drawing)
    points = bool((shapely.get_dimensions(whole_N) == 0).any())
    if points:
        whole_N = _squares(whole_N, raster.grid, tile, drawing.name)
    outlines = place_outlines(whole_N, _crs(raster.grid), raster.grid)
    notes = [*drawing.notes, *_left_out(outlines.reason_N, drawing.name)]
    if outlines.tiny:
        notes.append(f"{outlines.tiny} polygons cover no pixel centre; each takes the pixel in its middle.")
    kept_N = outlines.reason_N == ""
    if not kept_N.any():
        raise UserError(
            f"No polygon or point of '{drawing.name}' lies on '{raster.name}' ({'; '.join(notes)}). Choose ones of "
            "this place under 'Labels', or correct their CRS.",
            "labels",
        )
    texts = np.array(drawing.classes_F, object)[feature_N][kept_N]
    names = tuple(sorted(set(texts), key=natural_order(list(texts))))
    check_classes(names, drawing.name, class_field)
    shape_N = outlines.shape_N[kept_N]
    class_N = np.array([names.index(text) for text in texts])
    colours = choose_colours(names, {name: colour for name, colour in drawing.colours.items() if name in names})
    group_N = _groups(shape_N)
    return LabelledObjects(names, colours, shape_N, class_N, group_N, points, (*notes, *look_alikes(list(names))))


def without(
    labelled: LabelledObjects, missing_N: NDArray[np.bool_], raster: Raster, class_field: str
) -> LabelledObjects:
    """Leave out objects without a valid pixel, and classes that have no other.

    Raises:
        UserError: fewer than two classes are left.
    """
    if not missing_N.any():
        return labelled
    kept_N = ~missing_N
    present = np.unique(labelled.class_N[kept_N])
    names = tuple(labelled.names[at] for at in present)
    check_classes(names, raster.name, class_field)
    gone = [f"Class '{name}' has no valid pixel on this raster." for name in labelled.names if name not in names]
    return LabelledObjects(
        names,
        tuple(labelled.colours[at] for at in present),
        labelled.shape_N[kept_N],
        np.searchsorted(present, labelled.class_N[kept_N]),
        labelled.group_N[kept_N],
        labelled.points,
        (*labelled.notes, f"{int(missing_N.sum())} polygons lie on nodata alone and were left out.", *gone),
    )


def check_classes(names: tuple[str, ...], where: str, class_field: str) -> None:
    """Refuse classes that nothing can be learnt from.

    Raises:
        UserError: fewer than two, or too many.
    """
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"'{class_field}' of '{where}' has {len(names)} different values; at most {MOST_CLASSES} classes are "
            "possible. Choose the attribute that holds the class under 'Class field'.",
            "class_field",
        )
    if len(names) < 2:
        raise UserError(
            f"Of '{where}', one class, '{names[0]}', has polygons with pixels; learning needs two. Draw polygons of a "
            "second class, or choose another attribute under 'Class field'.",
            "class_field",
        )


def _crs(grid: Grid) -> Any:
    return grid.crs


def _features(drawing: Drawing) -> tuple[Indices, NDArray[Any]]:
    """Put the parts of each feature together again; returns a part of each, and the whole."""
    source_F = np.array(drawing.sources_F)
    order = np.argsort(source_F, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(source_F[order])) + 1)
    wholes = [_together([drawing.shapes_F[at] for at in part]) for part in parts]
    return np.array([part[0] for part in parts]), np.array(wholes, object)


def _together(shapes: list[Any]) -> Any:
    if len(shapes) == 1:
        return shapes[0]
    flat = [shape for shape in shapes if shapely.get_dimensions(shape) == 2]
    return shapely.MultiPolygon(flat) if flat else shapes[0]


def _squares(whole_N: NDArray[Any], grid: Grid, tile: float, name: str) -> NDArray[Any]:
    """Put a square of whole pixels in the place of each point, the point in its middle pixel."""
    side = round(tile / grid.gsd)
    if side < 1:
        raise UserError(
            f"'{name}' holds points. Say under 'Side of tiles' how large the square around a point is that has its "
            f"class (a pixel has {grid.gsd:.4g} m), or choose polygons under 'Labels'.",
            "tile",
        )
    found = whole_N.copy()
    for index in np.flatnonzero(shapely.get_dimensions(whole_N) == 0):
        x, y = shapely.get_x(whole_N[index]), shapely.get_y(whole_N[index])
        if not np.isfinite([x, y]).all():
            continue
        column, row = (int(np.floor(at)) - side // 2 for at in ~grid.transform @ (x, y))
        corners = [(column, row), (column + side, row), (column + side, row + side), (column, row + side)]
        found[index] = shapely.Polygon([grid.transform @ corner for corner in corners])
    return found


def _left_out(reason_N: NDArray[Any], name: str) -> list[str]:
    told = []
    for reason, sentence in ((OUTSIDE, "lie outside the raster"), (NO_POLYGON, "are lines")):
        number = int((reason_N == reason).sum())
        if number:
            told.append(f"{number} of {len(reason_N)} features of '{name}' {sentence} and were left out.")
    return told


def _groups(shape_N: NDArray[Any]) -> Indices:
    """Number the groups of objects that share ground, directly or through others."""
    tree = shapely.STRtree(shape_N)
    one, other = tree.query(shape_N, predicate="intersects")
    one, other = one[one < other], other[one < other]
    shared = shapely.area(shapely.intersection(shape_N[one], shape_N[other]))
    smaller = np.minimum(shapely.area(shape_N[one]), shapely.area(shape_N[other]))
    close = shared > SAME_GROUND * smaller
    links = coo_array((np.ones(int(close.sum())), (one[close], other[close])), shape=(len(shape_N), len(shape_N)))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)
