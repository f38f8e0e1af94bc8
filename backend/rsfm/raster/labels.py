"""Labelled pixels of a raster, from polygons that somebody drew.

Memory follows the labelled pixels, not the raster: each polygon is burnt in small windows of its own.
Shape letters: N labelled pixels, F simple geometries.
"""

import colorsys
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Drawing, Parameters, read_drawing
from rsfm.raster.reader import Raster, control

Indices = NDArray[np.int64]

MOST_CLASSES = 255
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
"""Okabe and Ito, 2008, "Color Universal Design": colours that colour-blind people tell apart."""
SUGGESTIONS = {
    "#0072b2": ("water", "river", "lake", "sea", "wetland"),
    "#009e73": ("forest", "tree", "wood", "vegetation", "shrub"),
    "#f0e442": ("grass", "crop", "cultivated", "field", "meadow", "herb"),
    "#d55e00": ("built", "building", "urban", "residential", "artificial", "industrial", "road"),
    "#e69f00": ("bare", "sand", "soil", "dry", "rock"),
}
"""Colours of the palette that a word in a class's name asks for."""
BURN_SIDE = 2048
"""Side of the windows in which a polygon is burnt, in pixels."""
READ_SIDE = 512
"""Side of the windows in which validity is read, in pixels."""


class Labels(NamedTuple):
    """Labelled pixels.

    Attributes:
        names: of the classes, in natural order.
        colours: "#rrggbb" for each class.
        rows_N, columns_N: the pixel, each at most once, in the order of the raster.
        class_N: index into names.
        polygon_N: which polygon it belongs to, 0 to P - 1; each part of a multi-polygon is a polygon.
        polygons: how many each class has.
        notes: what was repaired or left out, as sentences.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    rows_N: Indices
    columns_N: Indices
    class_N: Indices
    polygon_N: Indices
    polygons: tuple[int, ...]
    notes: tuple[str, ...]


class _Claims(NamedTuple):
    """Pixels, as row * width + column, that shapes lay claim to; one pixel can appear several times."""

    pixel_N: Indices
    shape_N: Indices


def read_labels(
    labels: str, class_field: str, raster: Raster, parameters: Parameters | None = None, fewest: int = 2
) -> Labels:
    """Find the pixels of a raster that lie in labelled shapes.

    A polygon takes the pixels whose centre it covers, or the one in its middle if it covers none; lines and points take
    those they touch. Pixels that are invalid, or claimed by two classes, are left out.

    Args:
        labels: a vector file in any CRS, or "file|layername=name".
        class_field: attribute that holds the class, text or number.
        parameters: names for errors; the usual ones if None.
        fewest: classes that must be there.

    Raises:
        UserError: in one sentence or two, why there is nothing to learn from.
    """
    parameters = parameters or Parameters()
    drawing = read_drawing(labels, class_field, raster.grid.crs, parameters)
    names = sorted(set(drawing.classes_F), key=natural_order(drawing.classes_F))
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"'{class_field}' of '{drawing.name}' has {len(names)} different values; at most {MOST_CLASSES} classes "
            f"are possible. Choose the attribute that holds the class under '{control(parameters.class_field)}'.",
            parameters.class_field,
        )
    notes = [*drawing.notes, *look_alikes(names)]
    class_F = np.array([names.index(name) for name in drawing.classes_F])
    claims = _settle(_claim(drawing, raster, parameters, notes), class_F, notes)
    claims = _only_valid(claims, raster, drawing, parameters, notes)
    present = sorted(set(class_F[claims.shape_N].tolist()))
    if len(present) < fewest:
        raise _too_few_classes(names, present, drawing, class_field, parameters)
    notes += [f"Class '{name}' has no pixel on this raster." for at, name in enumerate(names) if at not in present]
    shapes, polygon_N = np.unique(claims.shape_N, return_inverse=True)
    class_N = np.searchsorted(present, class_F[claims.shape_N])
    counts = np.bincount(np.searchsorted(present, class_F[shapes]), minlength=len(present))
    rows_N, columns_N = np.divmod(claims.pixel_N, raster.grid.width)
    kept = tuple(names[at] for at in present)
    colours = choose_colours(kept, drawing.colours)
    return Labels(kept, colours, rows_N, columns_N, class_N, polygon_N, tuple(counts.tolist()), tuple(notes))


def choose_colours(names: tuple[str, ...], given: dict[str, str]) -> tuple[str, ...]:
    """Return a colour for each class: the given one, else one its name suggests, else the next that is free."""
    given = {**_suggested(names, set(given.values())), **given}
    golden = 0.618034
    hues = (colorsys.hsv_to_rgb(step * golden % 1, 0.55, 0.85 - step % 3 * 0.2) for step in range(len(names) + 1))
    more = [f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}" for red, green, blue in hues]
    free = iter([colour for colour in (*PALETTE, *more) if colour not in given.values()])
    return tuple(given[name] if name in given else next(free) for name in names)


def _suggested(names: tuple[str, ...], taken: set[str]) -> dict[str, str]:
    """Return the colour that a class's name brings to mind, blue for water, once each."""
    found: dict[str, str] = {}
    for name in names:
        for colour, words in SUGGESTIONS.items():
            if colour not in taken and any(word in name.casefold() for word in words):
                found[name] = colour
                taken.add(colour)
                break
    return found


def natural_order(values: list[str]) -> Any:
    """Return the key to sort by: numbers by size, digits within text by size."""

    def is_number(text: str) -> bool:
        return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None

    if all(is_number(value) for value in values):
        return lambda text: (float(text), text)
    return lambda text: [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part
    ]


def look_alikes(names: list[str]) -> list[str]:
    seen: dict[str, str] = {}
    told = []
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            told.append(f"'{other}' and '{name}' differ in capitals only and are two classes.")
    return told


def _claim(drawing: Drawing, raster: Raster, parameters: Parameters, notes: list[str]) -> _Claims:
    """Burn all shapes."""
    burnt, outside, tiny = [], 0, 0
    for shape in drawing.shapes_F:
        pixels = _burn(shape, raster.grid)
        if len(pixels) == 0 and shapely.get_dimensions(shape) == 2:
            pixels = _middle(shape, raster.grid)
            tiny += len(pixels)
        outside += len(pixels) == 0
        burnt.append(pixels)
    if outside == len(burnt):
        raise _all_outside(drawing, raster, parameters)
    if outside:
        notes.append(f"{outside} of {len(burnt)} polygons lie outside the raster.")
    if tiny:
        notes.append(f"{tiny} of {len(burnt)} polygons cover no pixel centre; each takes the pixel in its middle.")
    shape_N = np.repeat(np.arange(len(burnt)), [len(pixels) for pixels in burnt])
    return _Claims(np.concatenate(burnt), shape_N)


def _burn(shape: Any, grid: Grid) -> Indices:
    """Return the pixels of a shape: by their centres for a polygon, all that are touched for a line or a point."""
    found = [np.empty(0, np.int64)]
    for window in _windows(shape, grid):
        burnt_HW = rasterize(
            [(shape, 1)],
            out_shape=(window.height, window.width),
            transform=grid.crop(window).transform,
            all_touched=shapely.get_dimensions(shape) < 2,
            dtype="uint8",
        )
        rows, columns = np.nonzero(burnt_HW)
        found.append((rows + window.row).astype(np.int64) * grid.width + columns + window.column)
    return np.concatenate(found)


def _windows(shape: Any, grid: Grid) -> Iterator[Window]:
    """Cut the rectangle around a shape, where it lies on the raster, into windows of a bounded size."""
    west, south, east, north = shapely.bounds(shape)
    if not np.isfinite([west, south, east, north]).all():
        return
    corners = [~grid.transform @ (x, y) for x in (west, east) for y in (south, north)]
    columns, rows = zip(*corners, strict=True)
    top, left = int(np.floor(min(rows))), int(np.floor(min(columns)))
    bottom, right = int(np.floor(max(rows))) + 1, int(np.floor(max(columns))) + 1
    whole = Window(top, left, bottom - top, right - left).intersection(grid.window)
    for row in range(whole.row, whole.row + whole.height, BURN_SIDE):
        for column in range(whole.column, whole.column + whole.width, BURN_SIDE):
            window = Window(row, column, BURN_SIDE, BURN_SIDE).intersection(whole)
            if window.height and window.width:
                yield window


def _middle(shape: Any, grid: Grid) -> Indices:
    """Return the pixel of a polygon's representative point; none outside the raster."""
    point = shapely.point_on_surface(shape)
    x, y = shapely.get_x(point), shapely.get_y(point)
    if not np.isfinite([x, y]).all():
        return np.empty(0, np.int64)
    column, row = (int(np.floor(at)) for at in ~grid.transform @ (x, y))
    inside = 0 <= row < grid.height and 0 <= column < grid.width
    return np.array([row * grid.width + column] if inside else [], np.int64)


def _settle(claims: _Claims, class_F: Indices, notes: list[str]) -> _Claims:
    """Leave one claim a pixel: the first one, or none where classes disagree."""
    order = np.argsort(claims.pixel_N, kind="stable")
    pixel_N, shape_N = claims.pixel_N[order], claims.shape_N[order]
    first = np.flatnonzero(np.r_[True, pixel_N[1:] != pixel_N[:-1]])
    class_N = class_F[shape_N]
    agreed = np.minimum.reduceat(class_N, first) == np.maximum.reduceat(class_N, first)
    if not agreed.all():
        notes.append(f"{_pixels(int((~agreed).sum()))} claimed by two classes and were left out.")
    return _Claims(pixel_N[first[agreed]], shape_N[first[agreed]])


def _only_valid(claims: _Claims, raster: Raster, drawing: Drawing, parameters: Parameters, notes: list[str]) -> _Claims:
    """Leave out what is nodata in the raster, reading only where there are labels."""
    rows_N, columns_N = np.divmod(claims.pixel_N, raster.grid.width)
    tile_N = (rows_N // READ_SIDE) * (raster.grid.width // READ_SIDE + 1) + columns_N // READ_SIDE
    order = np.argsort(tile_N, kind="stable")
    valid_N = np.zeros(len(order), bool)
    for at in np.split(order, np.flatnonzero(np.diff(tile_N[order])) + 1):
        if len(at):
            row, column = int(rows_N[at].min()), int(columns_N[at].min())
            height, width = int(rows_N[at].max()) - row + 1, int(columns_N[at].max()) - column + 1
            valid_HW = raster.read_native(Window(row, column, height, width))[1]
            valid_N[at] = valid_HW[rows_N[at] - row, columns_N[at] - column]
    if len(order) and not valid_N.any():
        raise UserError(
            f"All {len(order)} labelled pixels of '{drawing.name}' lie on nodata of '{raster.name}'. Draw polygons "
            f"where the raster has pixels, or choose other ones under '{control(parameters.labels)}'.",
            parameters.labels,
        )
    if not valid_N.all():
        notes.append(f"{_pixels(int((~valid_N).sum()))} on nodata and were left out.")
    return _Claims(claims.pixel_N[valid_N], claims.shape_N[valid_N])


def _pixels(count: int) -> str:
    return f"{count} labelled pixel{'s' if count > 1 else ''} {'are' if count > 1 else 'is'}"


def _all_outside(drawing: Drawing, raster: Raster, parameters: Parameters) -> UserError:
    west, south, east, north = shapely.total_bounds(np.array(drawing.shapes_F, object))
    placed = bool(np.isfinite([west, south, east, north]).all())
    there = f"at {_place((west, south, east, north))}" if placed else "where the raster's CRS has no coordinates"
    return UserError(
        f"The polygons of '{drawing.name}' lie outside '{raster.name}': {there}, the raster at "
        f"{_place(raster.grid.bounds)} (west, south, east, north in the raster's CRS). Choose polygons of this place "
        f"under '{control(parameters.labels)}', or correct their CRS.",
        parameters.labels,
    )


def _place(bounds: tuple[float, float, float, float]) -> str:
    return ", ".join(f"{value:.7g}" for value in bounds)


def _too_few_classes(
    names: list[str], present: list[int], drawing: Drawing, class_field: str, parameters: Parameters
) -> UserError:
    if len(names) == 1:
        found = f"'{drawing.name}' has one class, '{names[0]}', in '{class_field}'; learning needs two"
    elif present:
        found = f"Of '{drawing.name}', only class '{names[present[0]]}' has pixels on the raster; learning needs two"
    else:
        found = f"No pixel of '{drawing.name}' belongs to a single class: its polygons lie on top of each other"
    return UserError(
        f"{found}. Draw polygons of a second class, or choose another attribute under "
        f"'{control(parameters.class_field)}'.",
        parameters.class_field,
    )
