"""What somebody drew about two dates, burnt window by window: kinds of change, no change, or nothing said.

Shape letters: F polygons, H rows, W columns, K classes (0 is no change).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsfm.errors import UserError
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.label_file import Parameters, read_drawing, read_outlines, split_source
from rsfm.raster.labels import MOST_CLASSES, choose_colours, look_alikes, natural_order

UNCHANGED, IGNORED = 0, 255
CHANGED = "changed"
"""Name of the only kind, where kinds are not told apart."""
PARAMETERS = Parameters(labels="changes")
Shapes = Sequence[Any] | NDArray[Any]


class Polygons:
    """Polygons with values, in columns and rows of a raster."""

    def __init__(self, shapes_F: Shapes, value_F: Sequence[int] | NDArray[np.int64]) -> None:
        self.shapes_F, self.value_F = np.array(shapes_F, object), np.array(value_F, np.int64)
        self._tree = shapely.STRtree(self.shapes_F)

    def __len__(self) -> int:
        return len(self.shapes_F)

    def burn(self, window: Window) -> NDArray[np.int16]:
        """Return the value of the polygons over each pixel, -1 where there is none, IGNORED where several differ."""
        value_HW = np.full((window.height, window.width), -1, np.int16)
        box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
        near = np.sort(self._tree.query(box, predicate="intersects"))
        for value in np.unique(self.value_F[near]):
            shapes = self.shapes_F[near[self.value_F[near] == value]]
            place = Affine.translation(window.column, window.row)
            own_HW = rasterize(shapes, value_HW.shape, transform=place, dtype="uint8") > 0
            value_HW[own_HW] = np.where(value_HW[own_HW] < 0, value, IGNORED)
        return value_HW

    def kept(self, wanted_F: NDArray[np.bool_]) -> "Polygons":
        return Polygons(self.shapes_F[wanted_F], self.value_F[wanted_F])


class ChangeLabels(NamedTuple):
    """What was drawn.

    Attributes:
        names, colours: of the kinds of change, 1 to K - 1.
        changes: their polygons.
        unchanged: polygons where nothing changed, of value 0.
        complete: where every change has its polygon, so that the rest did not change; None is nowhere.
        notes: what was repaired or left out, as sentences.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    changes: Polygons
    unchanged: Polygons
    complete: Area | None
    notes: tuple[str, ...]

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return the value of each pixel, target_HW; IGNORED where nothing is said, or two things."""
        changed_HW, unchanged_HW = self.changes.burn(window), self.unchanged.burn(window)
        target_HW = np.full(changed_HW.shape, IGNORED, np.uint8)
        if self.complete is not None:
            part = window.intersection(self.complete.window)
            if part.height and part.width:
                top, left = part.row - window.row, part.column - window.column
                inside_HW = self.complete.inside(part)
                target_HW[top : top + part.height, left : left + part.width][inside_HW] = UNCHANGED
        target_HW[unchanged_HW == UNCHANGED] = UNCHANGED
        target_HW[changed_HW > 0] = changed_HW[changed_HW > 0]
        target_HW[(changed_HW > 0) & (unchanged_HW == UNCHANGED)] = IGNORED
        return target_HW


def read_change_labels(config: FinetuneChangeConfig, grid: Grid, overlap: Window) -> ChangeLabels:
    """Read what was drawn, and leave out what lies outside of the overlap.

    Raises:
        UserError: in one sentence or two, why there is nothing to learn from.
    """
    changes, unchanged, names, colours, notes = _read_changes(config, grid)
    if config.unchanged:
        drawn = read_outlines(config.unchanged, _crs(grid), Parameters(labels="unchanged"))
        unchanged += _in_pixels(drawn, grid)
    inside = _inside(changes.shapes_F, overlap)
    if not inside.any():
        raise UserError(
            f"No polygon of '{_name(config.changes)}' lies where the two rasters overlap. Choose polygons of "
            "this place under 'Changes', or correct their CRS.",
            "changes",
        )
    if not inside.all():
        notes.append(f"{int((~inside).sum())} of {len(changes)} polygons lie outside of the overlap.")
    kept_unchanged = [shape for shape, wanted in zip(unchanged, _inside(unchanged, overlap), strict=True) if wanted]
    complete = _complete(config, grid)
    if not kept_unchanged and complete is None:
        raise UserError(
            "Nothing says where nothing changed, and learning needs that too. Draw the area in which every change has "
            "its polygon under 'All drawn in', or choose polygons without change under 'Unchanged'.",
            "complete",
        )
    no_change = Polygons(kept_unchanged, [UNCHANGED] * len(kept_unchanged))
    return ChangeLabels(names, colours, changes.kept(inside), no_change, complete, tuple(notes))


def _read_changes(
    config: FinetuneChangeConfig, grid: Grid
) -> tuple[Polygons, list[Any], tuple[str, ...], tuple[str, ...], list[str]]:
    """Return the polygons of change, those of the class without change, names, colours and notes."""
    if not config.class_field:
        shapes = _in_pixels(read_outlines(config.changes, _crs(grid), PARAMETERS), grid)
        return Polygons(shapes, [1] * len(shapes)), [], (CHANGED,), choose_colours((CHANGED,), {}), []
    drawing = read_drawing(config.changes, config.class_field, _crs(grid), PARAMETERS)
    notes, flat = list(drawing.notes), np.array([shapely.get_dimensions(shape) == 2 for shape in drawing.shapes_F])
    if not flat.all():
        notes.append(f"{int((~flat).sum())} points or lines of '{drawing.name}' were left out.")
    shapes = _in_pixels(drawing.shapes_F, grid)
    none = config.unchanged_class.strip().casefold()
    found = [(shape, text) for shape, text, wanted in zip(shapes, drawing.classes_F, flat, strict=True) if wanted]
    unchanged = [shape for shape, text in found if text.casefold() == none]
    changed = [(shape, text) for shape, text in found if text.casefold() != none]
    texts = [text for _, text in changed]
    names = tuple(sorted(set(texts), key=natural_order(texts)))
    if not names or len(names) >= MOST_CLASSES - 1:
        raise UserError(
            f"'{config.class_field}' of '{drawing.name}' names {len(names)} kinds of change; 1 to {MOST_CLASSES - 2} "
            "are possible. Choose the attribute that holds the kind under 'Class field', or leave it empty.",
            "class_field",
        )
    notes += look_alikes(list(names))
    value_F = [names.index(text) + 1 for text in texts]
    colours = choose_colours(names, {name: drawing.colours[name] for name in names if name in drawing.colours})
    return Polygons([shape for shape, _ in changed], value_F), unchanged, names, colours, notes


def _complete(config: FinetuneChangeConfig, grid: Grid) -> Area | None:
    try:
        return read_area(grid, config.complete, "complete") if config.complete else None
    except UserError as error:
        raise UserError(str(error).replace("'Area'", "'All drawn in'"), "complete") from error


def _in_pixels(shapes: Sequence[Any], grid: Grid) -> list[Any]:
    """Bring shapes to columns and rows of a raster; those it has no place for go far away."""
    a, b, c, d, e, f = (~grid.transform)[:6]

    def move(points_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        x_N, y_N = points_N2.T
        moved_N2 = np.stack([a * x_N + b * y_N + c, d * x_N + e * y_N + f], axis=1)
        return np.where(np.isfinite(moved_N2), moved_N2, -1e9)

    return [shapely.transform(shape, move) for shape in shapes]


def _inside(shapes: Shapes, window: Window) -> NDArray[np.bool_]:
    box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
    return np.asarray(shapely.intersects(np.array(shapes, object), box), bool).reshape(-1)


def _crs(grid: Grid) -> Any:
    return grid.crs


def _name(source: str) -> str:
    return split_source(source)[0].replace("\\", "/").rpartition("/")[2]
