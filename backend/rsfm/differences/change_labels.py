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

from rsfm.differences.drawn_changes import read_drawn_changes
from rsfm.errors import UserError
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Grid, Window
from rsfm.raster.labels import choose_colours, look_alikes, natural_order
from rsfm.raster.reader import control

UNCHANGED, IGNORED = 0, 255
MOST_KINDS = 250
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
    drawn = read_drawn_changes(config, grid)
    names = tuple(sorted(set(drawn.kinds), key=natural_order(drawn.kinds)))
    if not names or len(names) > MOST_KINDS:
        raise UserError(
            f"What was drawn names {len(names)} kinds of change; 1 to {MOST_KINDS} are possible. Choose the attribute "
            "that holds the kind under 'Class field', or leave it empty.",
            "class_field",
        )
    notes = [*drawn.notes, *look_alikes(list(names))]
    changes = Polygons(drawn.changed, [names.index(kind) + 1 for kind in drawn.kinds])
    inside = _inside(changes.shapes_F, overlap)
    if not inside.any():
        raise UserError(
            f"No polygon of change lies where the two rasters overlap. Choose polygons of this place under "
            f"'{control(drawn.source)}', or correct their CRS.",
            drawn.source,
        )
    if not inside.all():
        notes.append(f"{int((~inside).sum())} of {len(changes)} polygons lie outside of the overlap.")
    quiet = np.array(drawn.unchanged, object)[_inside(drawn.unchanged, overlap)]
    complete = _complete(config, grid)
    if not len(quiet) and complete is None:
        raise UserError(
            "Nothing says where nothing changed, and learning needs that too. Draw the area in which every change has "
            "its polygon under 'All drawn in', or choose polygons without change under 'Unchanged'.",
            "complete",
        )
    colours = choose_colours(names, {name: drawn.colours[name] for name in names if name in drawn.colours})
    no_change = Polygons(quiet, [UNCHANGED] * len(quiet))
    return ChangeLabels(names, colours, changes.kept(inside), no_change, complete, tuple(notes))


def _complete(config: FinetuneChangeConfig, grid: Grid) -> Area | None:
    try:
        return read_area(grid, config.complete, "complete") if config.complete else None
    except UserError as error:
        raise UserError(str(error).replace("'Area'", "'All drawn in'"), "complete") from error


def _inside(shapes: Shapes, window: Window) -> NDArray[np.bool_]:
    box = shapely.box(window.column, window.row, window.column + window.width, window.row + window.height)
    return np.asarray(shapely.intersects(np.array(shapes, object), box), bool).reshape(-1)
