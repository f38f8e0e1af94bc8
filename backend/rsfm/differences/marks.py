"""The places that somebody marked as "this" and as "not this": points and polygons with the kind as an attribute.

Shape letters: H rows, W columns, K kinds.
"""

from typing import NamedTuple

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.affinity import affine_transform

from rsfm.distinct_colours import FIRST
from rsfm.errors import UserError
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Drawing, Parameters, read_drawing

MOST_KINDS = 16
FEWEST = 3
"""Places of each kind, and of none, from which it can be learned."""
CLICK = 9
"""Pixels of a click: its own and the eight around it."""
MOST_PIXELS = 400
"""Of a polygon; a larger one gives every n-th row and column."""
HEAVIEST = 10
"""A polygon counts as much as this many clicks at most."""
LARGE = 2**20
"""Pixels of a polygon's rectangle, above which single pixels are read rather than the rectangle."""


class Mark(NamedTuple):
    """Pixels that were marked.

    Attributes:
        kind: number of the kind from 1; 0 is what is not meant.
        pieces: windows, and which of their pixels are marked.
        weight: how much the mark counts, in pixels.
        key: equal for equal marks.
    """

    kind: int
    pieces: tuple[tuple[Window, np.ndarray], ...]
    weight: float
    key: tuple[object, ...]


class Marks(NamedTuple):
    """All marks.

    Attributes:
        kinds, colours: K names and their colours, in the order in which they were first marked.
        notes: what was left out, as sentences.
    """

    marks: list[Mark]
    kinds: list[str]
    colours: list[str]
    notes: list[str]


def read_marks(config: RefineChangeConfig, grid: Grid) -> Marks:
    """Read points and polygons.

    Raises:
        UserError: a file cannot be read, or there are too few places of a kind.
    """
    drawings = [
        read_drawing(source, config.kind_field, grid.crs or CRS(), Parameters(labels=name, class_field="kind_field"))
        for name, source in (("clicks", config.clicks), ("areas", config.areas))
        if source
    ]
    kinds = list(dict.fromkeys(kind for drawing in drawings for kind in drawing.classes_F if kind != config.nothing))
    if len(kinds) > MOST_KINDS:
        raise UserError(
            f"{len(kinds)} kinds of change are marked and at most {MOST_KINDS} can be told apart. Choose another "
            "attribute under 'Kind field'.",
            "kind_field",
        )
    marks, outside = _place(drawings, kinds, grid)
    _check_count(marks, kinds, config.nothing)
    said = {kind: colour for drawing in reversed(drawings) for kind, colour in drawing.colours.items()}
    colours = [said.get(kind, FIRST[place % len(FIRST)]) for place, kind in enumerate(kinds)]
    notes = [note for drawing in drawings for note in drawing.notes]
    if outside:
        notes.append(f"{outside} of {len(marks) + outside} marks lie outside the raster of the earlier date.")
    return Marks(marks, kinds, colours, notes)


def _place(drawings: list[Drawing], kinds: list[str], grid: Grid) -> tuple[list[Mark], int]:
    """Return the marks that hold a pixel, and how many do not."""
    marks, outside, inverse = [], 0, ~grid.transform
    for drawing in drawings:
        for shape, kind in zip(drawing.shapes_F, drawing.classes_F, strict=True):
            number = kinds.index(kind) + 1 if kind in kinds else 0
            coefficients = (inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f)
            mark = _mark(affine_transform(shape, coefficients), number, grid)
            outside += mark is None
            marks += [] if mark is None else [mark]
    return marks, outside


def _mark(shape: shapely.Geometry, kind: int, grid: Grid) -> Mark | None:
    """Return the pixels of a shape given in columns and rows; None where it holds none of the raster."""
    if not np.isfinite(shapely.bounds(shape)).all():
        return None
    key = (kind, shapely.to_wkb(shape))
    if shapely.get_dimensions(shape) < 2:
        column, row = shapely.get_coordinates(shapely.point_on_surface(shape))[0]
        return _click(int(np.floor(row)), int(np.floor(column)), kind, key, grid)
    left, top, right, bottom = shapely.bounds(shape)
    row, column = int(np.floor(top)), int(np.floor(left))
    window = Window(row, column, int(np.ceil(bottom)) - row, int(np.ceil(right)) - column).intersection(grid.window)
    pieces = _pieces(shape, window)
    pixels = sum(int(inside_HW.sum()) for _, inside_HW in pieces)
    if pixels == 0:
        column, row = shapely.get_coordinates(shapely.point_on_surface(shape))[0]
        return _click(int(np.floor(row)), int(np.floor(column)), kind, key, grid)
    return Mark(kind, pieces, float(np.clip(pixels, CLICK, HEAVIEST * CLICK)), key)


def _click(row: int, column: int, kind: int, key: tuple[object, ...], grid: Grid) -> Mark | None:
    if not (0 <= row < grid.height and 0 <= column < grid.width):
        return None
    window = Window(row - 1, column - 1, 3, 3).intersection(grid.window)
    return Mark(kind, ((window, np.ones((window.height, window.width), bool)),), CLICK, key)


def _pieces(shape: shapely.Geometry, window: Window) -> tuple[tuple[Window, np.ndarray], ...]:
    """Return at most MOST_PIXELS pixels whose centre lies in a polygon, spread evenly."""
    if window.height == 0 or window.width == 0:
        return ()
    if window.height * window.width > LARGE:
        rows, columns = (np.linspace(0, size - 1, 20).astype(int) for size in (window.height, window.width))
        places = [(window.row + int(row), window.column + int(column)) for row in rows for column in columns]
        shapely.prepare(shape)
        inside = shapely.contains_xy(shape, [column + 0.5 for _, column in places], [row + 0.5 for row, _ in places])
        one = np.ones((1, 1), bool)
        return tuple((Window(*place, 1, 1), one) for place, is_in in zip(places, inside, strict=True) if is_in)
    moved = shapely.transform(shape, lambda points_N2: points_N2 - [window.column, window.row])
    inside_HW = rasterize([moved], (window.height, window.width), dtype="uint8") > 0
    step = max(1, int(np.ceil(np.sqrt(inside_HW.sum() / MOST_PIXELS))))
    spread_HW = np.zeros_like(inside_HW)
    spread_HW[step // 2 :: step, step // 2 :: step] = True
    kept_HW = inside_HW & spread_HW
    return ((window, kept_HW if kept_HW.any() else inside_HW),)


def _check_count(marks: list[Mark], kinds: list[str], nothing: str) -> None:
    """Refuse too few places.

    Raises:
        UserError: in a sentence, how many there are of each kind and of nothing.
    """
    names = [nothing, *(kinds or ["this"])]
    places = [0] * len(names)
    for mark in marks:
        pixels = sum(int(inside_HW.sum()) for _, inside_HW in mark.pieces)
        places[mark.kind] += 1 if mark.weight <= CLICK else min(pixels, FEWEST)
    if min(places) < FEWEST:
        found = ", ".join(f"'{name}' has {count}" for name, count in zip(names, places, strict=True))
        raise UserError(
            f"Too few places are marked: {found}. Mark at least {FEWEST} typical places of each under 'Clicks'.",
            "clicks",
        )
