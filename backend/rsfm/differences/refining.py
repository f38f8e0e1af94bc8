"""Maps the change that somebody means over a whole raster, from a few marks: likeness, kinds, polygons.

What is learned depends on the marks and the pair alone, so that the map of an area is the crop of the map of the whole.

Shape letters: H rows, W columns, N objects.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from rsfm import __version__
from rsfm.differences.checking import shift_result, stage, tell_alignment
from rsfm.differences.findings import alignment
from rsfm.differences.fitting import Weights, learn, likeness
from rsfm.differences.marks import Marks, read_marks
from rsfm.differences.planes import Cells, Scene, open_scene
from rsfm.differences.shares import ShareCounter, cut_at, shown
from rsfm.differences.shown_changes import keep_changes
from rsfm.errors import UserError
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.outputs.change import Change
from rsfm.outputs.likeness import Likeness
from rsfm.raster.grid import Grid, Window, parse_area
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.objects import ObjectFinder, Objects
from rsfm.raster.pair import Pair
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import open_raster
from rsfm.raster.tracing import Tracer
from rsfm.raster.writer import RasterWriter
from rsfm.result_words import area as area_text
from rsfm.runs import Run

TITLE, POLYGONS_FILE = "Like the marked change", "change.gpkg"
FEWEST_PIXELS = 40
"""Smaller objects are left out unless the user gives a minimum area, as in 'Detect Change'."""
LOOKED_AT = 2**22
"""Pixels around which the encoder looks at once."""


class Task(NamedTuple):
    """What all steps share."""

    scene: Scene
    marks: Marks
    weights: Weights
    area: Window
    grid: Grid
    config: RefineChangeConfig
    run: Run


def refine_change(config: RefineChangeConfig, run: Run) -> dict[str, Any]:
    """Write the likeness, the map of kinds and their polygons.

    Raises:
        UserError: the rasters cannot be compared, or too few places are marked.
    """
    with open_scene(config, stage(run, 0, 0.02, "Looking for a shift")) as scene:
        pair = scene.pair
        for note in pair.notes:
            run.warning(note)
        if scene.shift:
            tell_alignment(alignment(scene.shift, moved=True), True, run)
        marks, area = read_marks(config, pair.before.grid), find_area(pair, config.area)
        for note in marks.notes:
            run.warning(note)
        run.progress(0.02, "Learning from the marks")
        if config.model:
            scene.encoded = load_encoder(config, pair, run.check)
        if area.height * area.width <= LOOKED_AT:
            scene.look(area, keep=True)
        weights = learn(scene, marks.marks, {})
        task = Task(scene, marks, weights, area, pair.before.grid.crop(area), config, run)
        counter = _write_likeness(task)
        cuts = counter.cuts()
        cut = cut_at(cuts, config.show)
        style = {"kinds": classes(marks), "cuts": cuts, "show": config.show}
        run.output("likeness", run.outputs / "likeness.tif", TITLE, **style)
        objects = _find_objects(task, cut)
        _write_changes(task, cut, objects)
        keep_changes(run, pair, run.outputs / POLYGONS_FILE, _why_no_polygons(config))
    return _result(task, cut, counter, objects)


def load_encoder(config: RefineChangeConfig, pair: Pair, check: Callable[[], None]) -> Any:
    """Make the encoder ready.

    Raises:
        UserError: the model does not fit the rasters.
    """
    from rsfm.differences.encoded import Encoder  # torch takes seconds, and most refinements need none

    return Encoder(str(config.model), pair, config.device, check)


def classes(marks: Marks) -> list[dict[str, Any]]:
    """Return the kinds as classes of a style."""
    pairs = zip(marks.kinds, marks.colours, strict=True)
    return [{"value": place + 1, "name": kind, "colour": colour} for place, (kind, colour) in enumerate(pairs)]


def find_area(pair: Pair, area: str | None) -> Window:
    """Return the part of the overlap that is asked for.

    Raises:
        UserError: it lies outside.
    """
    window = parse_area(pair.before.grid, area).intersection(pair.window)
    if window.height == 0 or window.width == 0:
        raise UserError(
            "The area lies outside the part that the two rasters share. Draw another one under 'Area', or leave it "
            "empty to map the whole overlap.",
            "area",
        )
    return window


def _write_likeness(task: Task) -> ShareCounter:
    counter, scene, run = ShareCounter(), task.scene, task.run
    path = run.outputs / "likeness.tif"
    with RasterWriter(path, Likeness, task.grid, band_names=[TITLE], metadata=_provenance(task)) as writer:
        for strip, cells in _strips(task):
            run.check()
            code_HW = likeness(scene.read(strip, cells), task.weights)
            counter.add(code_HW)
            writer.write(code_HW[None])
            run.progress(0.1 + 0.6 * (strip.row + strip.height - task.area.row) / task.area.height, TITLE)
        if counter.valid == 0:
            raise UserError(
                "No pixel of the area is valid on both dates. Draw another one under 'Area', or leave it empty to map "
                "the whole overlap.",
                "area",
            )
    return counter


def _strips(task: Task) -> Iterator[tuple[Window, Cells | None]]:
    """Cut the area into strips; the encoder looks around several of them at once."""
    rows = max(1, LOOKED_AT // task.area.width)
    for row in range(0, task.area.height, rows):
        part = Window(task.area.row + row, task.area.column, min(rows, task.area.height - row), task.area.width)
        cells = task.scene.look(part, keep=True)
        for strip in task.scene.pair.strips(part):
            yield strip, cells


def _find_objects(task: Task, cut: float) -> Objects:
    areas, finder = GroundArea(task.grid), ObjectFinder()
    with _likeness(task) as (strips, read):
        for strip in strips:
            task.run.check()
            code_HW = read(strip)
            numbers_HW = shown(code_HW, cut).astype(np.int64)
            weights_HW = np.nan_to_num(code_HW - np.floor(code_HW))
            finder.add(numbers_HW, areas.read(strip), weights_HW)
            task.run.progress(0.7 + 0.1 * (strip.row + strip.height) / task.grid.height, "Outlines")
    objects = finder.finish()
    if task.config.minimum_area > 0:
        return objects.keep(objects.area_N >= task.config.minimum_area)
    return objects.keep(objects.pixels_N >= FEWEST_PIXELS)


def _write_changes(task: Task, cut: float, objects: Objects) -> None:
    """Write the kinds as a raster and as polygons, without the objects that were left out."""
    run, marks = task.run, task.marks
    path, polygons_path = run.outputs / "change.tif", run.outputs / POLYGONS_FILE
    mean_N = objects.weight_N / np.maximum(objects.pixels_N, 1)
    rank_N = rankdata(-objects.area_N, "ordinal")
    value_M, tracer = np.append(0, objects.value_N).astype(np.uint8), Tracer(objects.last_row_N)
    fields = ["rank", "kind", "mean_likeness", "area_m2"]
    with ExitStack() as stack:
        strips, read = stack.enter_context(_likeness(task))
        names, metadata = ["Kind of change"], _provenance(task)
        writer = stack.enter_context(RasterWriter(path, Change, task.grid, band_names=names, metadata=metadata))
        polygons = stack.enter_context(PolygonWriter(polygons_path, task.grid, fields))
        for index, strip in enumerate(strips):
            run.check()
            code_HW = read(strip)
            numbers_HW = objects.label(index, shown(code_HW, cut))
            kinds_HW = np.where(np.isfinite(code_HW), value_M[numbers_HW], np.uint8(Change.nodata))
            writer.write(kinds_HW[None])
            for number, polygon in tracer.add(numbers_HW, _below(read, strip, task, index, objects, cut)):
                place = number - 1
                kind = marks.kinds[int(objects.value_N[place]) - 1]
                polygons.add(polygon, int(rank_N[place]), kind, float(mean_N[place]), float(objects.area_N[place]))
            run.progress(0.8 + 0.2 * (strip.row + strip.height) / task.grid.height, "Outlines")
    run.output("change", path, "Kinds of change", classes=classes(marks))
    if len(objects):
        run.output("change_polygons", polygons_path, "Polygons of change")
    else:
        polygons_path.unlink()


def _below(
    read: Callable[[Window], np.ndarray], strip: Window, task: Task, index: int, objects: Objects, cut: float
) -> np.ndarray | None:
    """Return the numbers of the first row of the next strip, which matter where kinds touch."""
    bottom = strip.row + strip.height
    if len(task.marks.kinds) == 1 or bottom == task.grid.height:
        return None
    height = min(strip.height, task.grid.height - bottom)
    below_HW = shown(read(Window(bottom, 0, height, strip.width)), cut)
    return np.asarray(objects.label(index + 1, below_HW)[0])


def _why_no_polygons(config: RefineChangeConfig) -> str:
    least = area_text(config.minimum_area) if config.minimum_area > 0 else f"{FEWEST_PIXELS} pixels"
    return (
        f"Nothing is outlined: of the {config.show:g} % of the area most like your marks no place is as large as "
        f"{least}. Give a smaller area under 'Minimum area', or more under 'Show the top'."
    )


@contextmanager
def _likeness(task: Task) -> Iterator[tuple[list[Window], Callable[[Window], np.ndarray]]]:
    """Open the likeness that was written, and return its strips and what reads one."""
    with open_raster(str(task.run.outputs / "likeness.tif"), require_crs=False) as raster:

        def read(strip: Window) -> np.ndarray:
            pixels_CHW, valid_HW = raster.read(strip)
            return np.where(valid_HW, pixels_CHW[0], np.float32(np.nan))

        yield list(task.scene.pair.strips(raster.grid.window)), read


def _provenance(task: Task) -> dict[str, str]:
    """Say in an output's metadata where it comes from."""
    return {
        "RSFM_VERSION": __version__,
        "RSFM_BEFORE": task.scene.pair.before.name,
        "RSFM_AFTER": task.scene.pair.after.name,
        "RSFM_KINDS": ", ".join(task.marks.kinds),
        "RSFM_CONFIG": task.config.model_dump_json(),
    }


def _result(task: Task, cut: float, counter: ShareCounter, objects: Objects) -> dict[str, Any]:
    marks = [mark.kind for mark in task.marks.marks]
    area_m2 = float(objects.area_N.sum())
    by_kind = {
        name: float(objects.area_N[objects.value_N == number].sum()) for number, name in enumerate(task.marks.kinds, 1)
    }
    kinds = ", ".join(f"'{name}' {area / 1e4:,.1f} ha" for name, area in by_kind.items())
    text = (
        f"The {task.config.show:g} % of the area most like your marks: {len(objects)} polygons, {kinds}. This was "
        "learned for this pair alone, from "
        f"{sum(kind > 0 for kind in marks)} places of what you mean and {marks.count(0)} of what you do not."
    )
    task.run.note(text)
    return {
        "sentence": text,
        "polygons": len(objects),
        "area_changed_m2": area_m2,
        "area_of_kinds_m2": by_kind,
        "share_changed": float(objects.pixels_N.sum()) / counter.valid,
        "cut": cut,
        **({"shift": shift_result(task.scene.shift)} if task.scene.shift else {}),
        "marks": {"not_meant": marks.count(0), **{name: marks.count(n) for n, name in enumerate(task.marks.kinds, 1)}},
    }
