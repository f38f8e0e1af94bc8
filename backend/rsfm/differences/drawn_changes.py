"""Polygons about two dates, as drawn: of change, or of the classes at each date, whose overlay tells the change.

Shape letters: F polygons.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Drawing, Parameters, read_drawing, read_outlines

CHANGED = "changed"
"""Name of the only kind, where kinds are not told apart."""
BECAME = "{} → {}"
"""Kind of change from a class to another one."""
FAR = -1e9
"""Column and row of what a raster has no place for."""


class DrawnChanges(NamedTuple):
    """Polygons in columns and rows of a raster.

    Attributes:
        shapes: those of change, then those where nothing changed.
        kinds: of change; as many as it has polygons.
        colours: kind -> "#rrggbb", where the file gives one.
        source: the parameter that holds them, for errors to point at.
        notes: what was repaired or left out, as sentences.
    """

    shapes: list[Any]
    kinds: list[str]
    colours: dict[str, str]
    source: str
    notes: list[str]

    @property
    def unchanged(self) -> list[Any]:
        return self.shapes[len(self.kinds) :]

    @property
    def changed(self) -> list[Any]:
        return self.shapes[: len(self.kinds)]


def read_drawn_changes(config: FinetuneChangeConfig, grid: Grid) -> DrawnChanges:
    """Read what was drawn of change.

    Raises:
        UserError: nothing, or a file that cannot be used.
    """
    if config.changes:
        found = _read_changes(config, config.changes, grid)
    elif config.before_classes and config.after_classes:
        found = _compare_classes(config, config.before_classes, config.after_classes, grid)
    else:
        raise UserError(
            "Nothing says what changed. Choose polygons of change under 'Changes', or polygons with classes of both "
            "dates under 'Before classes' and 'After classes'.",
            "changes",
        )
    if not config.unchanged:
        return found
    quiet = read_outlines(config.unchanged, _crs(grid), Parameters(labels="unchanged"))
    return found._replace(shapes=found.shapes + in_pixels(quiet, grid))


def in_pixels(shapes: Sequence[Any], grid: Grid) -> list[Any]:
    """Bring shapes to columns and rows of a raster; those it has no place for go far away."""
    a, b, c, d, e, f = (~grid.transform)[:6]

    def move(points_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        x_N, y_N = points_N2.T
        moved_N2 = np.stack([a * x_N + b * y_N + c, d * x_N + e * y_N + f], axis=1)
        return np.where(np.isfinite(moved_N2), moved_N2, FAR)

    return [shapely.transform(shape, move) for shape in shapes]


def _read_changes(config: FinetuneChangeConfig, changes: str, grid: Grid) -> DrawnChanges:
    parameters = Parameters(labels="changes")
    if not config.class_field:
        shapes = in_pixels(read_outlines(changes, _crs(grid), parameters), grid)
        return DrawnChanges(shapes, [CHANGED] * len(shapes), {}, "changes", [])
    drawing, notes = _polygons_alone(read_drawing(changes, config.class_field, _crs(grid), parameters))
    none = config.unchanged_class.strip().casefold()
    texts = [text.casefold() for text in drawing.classes_F]
    shapes = in_pixels(drawing.shapes_F, grid)
    changed = [at for at, text in enumerate(texts) if text != none]
    quiet = [at for at, text in enumerate(texts) if text == none]
    ordered = [shapes[at] for at in (*changed, *quiet)]
    kinds = [drawing.classes_F[at] for at in changed]
    return DrawnChanges(ordered, kinds, drawing.colours, "changes", notes)


def _compare_classes(config: FinetuneChangeConfig, before: str, after: str, grid: Grid) -> DrawnChanges:
    """Lay the polygons of both dates over each other: another class is a change, what one date lacks says nothing."""
    field = config.class_field or "class"
    earlier, notes = _polygons_alone(read_drawing(before, field, _crs(grid), Parameters(labels="before_classes")))
    later, more = _polygons_alone(read_drawing(after, field, _crs(grid), Parameters(labels="after_classes")))
    changed: list[Any] = []
    quiet: list[Any] = []
    kinds: list[str] = []
    pairs = shapely.STRtree(later.shapes_F).query(earlier.shapes_F, predicate="intersects")
    for one, other in zip(*pairs.tolist(), strict=True):
        classes = earlier.classes_F[one], later.classes_F[other]
        common = shapely.intersection(earlier.shapes_F[one], later.shapes_F[other])
        parts = [part for part in shapely.get_parts(common) if shapely.get_dimensions(part) == 2]
        if classes[0] == classes[1]:
            quiet += parts
        else:
            changed += parts
            kinds += [BECAME.format(*classes)] * len(parts)
    if not changed:
        raise UserError(
            "The polygons of the two dates have no ground in common on which the class is another one: they tell of no "
            "change. Draw the same places at both dates, under 'Before classes' and 'After classes'.",
            "after_classes",
        )
    return DrawnChanges(in_pixels(changed + quiet, grid), kinds, {}, "after_classes", [*notes, *more])


def _polygons_alone(drawing: Drawing) -> tuple[Drawing, list[str]]:
    """Leave out points and lines, and say so."""
    kept = [at for at, shape in enumerate(drawing.shapes_F) if shapely.get_dimensions(shape) == 2]
    notes = list(drawing.notes)
    if len(kept) < len(drawing.shapes_F):
        notes.append(f"{len(drawing.shapes_F) - len(kept)} points or lines of '{drawing.name}' were left out.")
    shapes, classes = [drawing.shapes_F[at] for at in kept], [drawing.classes_F[at] for at in kept]
    return drawing._replace(shapes_F=shapes, classes_F=classes), notes


def _crs(grid: Grid) -> Any:
    return grid.crs
