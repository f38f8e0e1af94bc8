"""Shows where two rasters differ, without labels: a check, a magnitude, and what lies above a threshold as objects.

Everything that is global is measured over the whole overlap of the two rasters, so the magnitude of an area is the crop
of the magnitude of the whole. Objects are those of the area: one that its edge cuts counts with the part inside.

Shape letters: H rows, W columns, N objects.
"""

from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from rsfm import __version__
from rsfm.change_findings import (
    FEWEST_PIXELS,
    Layer,
    choose_method,
    fit_layer,
    sentence,
    switched,
    why_no_polygons,
)
from rsfm.differences.checking import report_arrows, shift_result, stage, tell_alignment
from rsfm.differences.findings import Finding, Measured, alignment, as_table, find_all
from rsfm.differences.gate import gate_of
from rsfm.differences.opening import describe, open_aligned
from rsfm.differences.shares import MagnitudeCounter
from rsfm.differences.shown_changes import keep_changes
from rsfm.differences.shown_pair import keep_pair
from rsfm.errors import UserError
from rsfm.jobs.detect_change import READ_ENCODER, DetectChangeConfig
from rsfm.magnitude import Scene
from rsfm.outputs.change import Change
from rsfm.outputs.magnitude import Magnitude
from rsfm.preview import Preview, Show, small_preview, view_preview, view_window
from rsfm.raster.background import Background
from rsfm.raster.difference import band_correlations
from rsfm.raster.grid import Grid, Window, parse_area
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.objects import ObjectFinder, Objects
from rsfm.raster.pair import Pair
from rsfm.raster.pair_pixels import Finish, as_stored
from rsfm.raster.pair_sample import PairSample, take_sample
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import open_raster
from rsfm.raster.tracing import Tracer
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

TITLE, POLYGONS_FILE = "Magnitude of difference", "change.gpkg"
TIMELESS = {"gassl": "GASSL", "seco": "SeCo"}
"""Methods whose views of a place come from several dates."""
OTHERS = ("ir_mad", "difference", "rank_average")


class Extent(NamedTuple):
    """Cells of an area that are valid, cells and square metres that changed, and in how many polygons."""

    valid: int
    changed: int
    changed_m2: float
    polygons: int


class Task(NamedTuple):
    """What all parts of a run share; `area` in pixels of the pair's grid."""

    config: DetectChangeConfig
    scene: Scene
    area: Window
    run: Run

    def grid(self, layer: Layer) -> Grid:
        """The grid of a layer's magnitude."""
        stride = layer.magnitude.stride
        return self.scene.pair.before.grid.shrink(stride).crop(self.area.cells(stride))


def detect_change(config: DetectChangeConfig, run: Run) -> dict[str, Any]:
    """Check the pair, then write the magnitude, the map of changes and their polygons.

    Returns:
        share_changed, area_changed_m2, polygons; gate (share, verdict), correlations, shift, findings, method,
        threshold, sentence.

    Raises:
        UserError: the two rasters cannot be compared.
    """
    described = describe(config)
    with open_aligned(config, described, stage(run, 0, 0.1, "Looking for a shift")) as (pair, shift):
        for note in pair.notes:
            run.warning(note)
        scene = Scene(pair, config.model, config.level, check=run.check)
        task = Task(config, scene, _area(pair, config.area), run)
        if config.model:
            task = task._replace(scene=scene._replace(device=_device(config, config.model, pair, run)))
        sample = take_sample(pair, stage(run, 0.1, 0.4, "Comparing the two dates"))
        correlations = band_correlations(sample.before_CN, sample.after_CN)
        measured = Measured(sample.counts, correlations, gate_of(sample), shift, config.correct_shift)
        found = find_all(config, described, pair, measured)
        _tell(found, switched(config, measured), run)
        tell_alignment(alignment(shift, config.correct_shift), config.correct_shift, run)
        keep_pair(run, pair, found, measured)
        layer, others = _fit(task, sample, measured)
        del sample  # as large as everything that follows
        extent = _map(task, layer)
        keep_changes(run, pair, run.outputs / POLYGONS_FILE, why_no_polygons(layer, config))
        for number, (title, other) in enumerate(others):
            _write_other(task, other, title, (0.9 + 0.1 * number / len(others), 0.9 + 0.1 * (number + 1) / len(others)))
        if shift.verdict == "shifted":
            report_arrows(shift, pair, run)
    text = sentence(layer, measured.gate, config)
    run.note(text)
    return _result(layer, measured, found, extent, text)


def _tell(found: list[Finding], switch: str, run: Run) -> None:
    """Warn of what is worth acting on, the alignment aside.

    Args:
        switch: why another magnitude than usual is shown.
    """
    for finding in found:
        if finding.state == "warning" and finding.topic != "Alignment":
            run.warning(f"{finding.text} {switch if finding.topic == 'Likeness' else ''}".strip())


def _fit(task: Task, sample: PairSample, measured: Measured) -> tuple[Layer, list[tuple[str, Layer]]]:
    """Measure the magnitude, and those that are asked for beside it, with their titles."""
    config, gate = task.config, measured.gate
    method = choose_method(config, measured.correlations)
    names = [name for name in OTHERS if config.all_methods and name != method]
    names += ["deep"] if config.model and method not in READ_ENCODER else []
    layer = fit_layer(method, task.scene, sample, config, gate)
    fitted = [fit_layer(name, task.scene, sample, config, gate) for name in names]
    return layer, [(other.magnitude.title, other) for other in fitted]


def _map(task: Task, layer: Layer) -> Extent:
    config, run = task.config, task.run
    path = run.outputs / "magnitude.tif"
    written = _write_magnitude(task, layer, path)
    run.output("magnitude", path, TITLE, **{**layer.style, "cuts": written.cuts})
    objects = written.objects
    if config.minimum_area > 0:
        objects = objects.keep(objects.area_N >= config.minimum_area)
    else:
        objects = objects.keep(objects.pixels_N >= FEWEST_PIXELS)
    _write_changes(task, path, layer, written._replace(objects=objects))
    return Extent(written.valid, int(objects.pixels_N.sum()), float(objects.area_N.sum()), len(objects))


class Written(NamedTuple):
    """What lies above the threshold, the number of valid cells, the heights of the strips they came in, all cuts."""

    objects: Objects
    valid: int
    heights: list[int]
    cuts: list[float]


class Found:
    """What is found of a magnitude while it is written, strip by strip.

    Attributes:
        valid: cells so far.
        heights: of the strips so far.
    """

    def __init__(self, task: Task, layer: Layer, writer: RasterWriter, preview: Preview | None) -> None:
        self._writer, self._preview, self._threshold = writer, preview, layer.threshold
        self._done, self._height = stage(task.run, 0.4, 0.7, TITLE), writer.grid.height
        self._areas, self._finder, self._counter = GroundArea(writer.grid), ObjectFinder(), MagnitudeCounter()
        self.valid, self.heights = 0, list[int]()

    def take(self, magnitude_HW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Write a strip and look for objects in it."""
        self._writer.write(as_stored(magnitude_HW, valid_HW)[None])
        self._counter.add(magnitude_HW[valid_HW])
        if self._preview is not None:
            self._preview.take(magnitude_HW[None], valid_HW)[0]()
        row = sum(self.heights)
        changed_HW = _above(magnitude_HW, valid_HW, self._threshold)
        self._finder.add(changed_HW, self._areas.read(Window(row, 0, *valid_HW.shape)), magnitude_HW)
        self.heights.append(len(valid_HW))
        self.valid += int(valid_HW.sum())
        self._done((row + len(valid_HW)) / self._height)

    def finish(self) -> Written:
        return Written(self._finder.finish(), self.valid, self.heights, self._counter.cuts())


def _write_magnitude(task: Task, layer: Layer, path: Path) -> Written:
    """Write the magnitude of an area; strips are computed while those before them are written."""
    metadata = _provenance(task, layer)
    with RasterWriter(path, Magnitude, task.grid(layer), band_names=[TITLE], metadata=metadata) as writer:
        found = Found(task, layer, writer, _preview(task, layer, writer))
        _write_behind(task, layer, found.take)
        if found.valid == 0:
            raise UserError(
                "No pixel of the area is valid on both dates. Draw another one under 'Area', or leave it empty to "
                "compare the whole overlap.",
                "area",
            )
    return found.finish()


def _write_behind(task: Task, layer: Layer, take: Finish) -> None:
    """Compute a magnitude, and have its strips taken in another thread."""
    with Background() as background:

        def finish(magnitude_HW: np.ndarray, valid_HW: np.ndarray) -> None:
            background.do(partial(take, magnitude_HW, valid_HW), magnitude_HW.nbytes)

        layer.magnitude.write(task.scene, task.area, finish)


def _preview(task: Task, layer: Layer, writer: RasterWriter) -> Preview | None:
    """Compare what is on the screen, then return what shows the whole in small; None where nobody looks."""
    run, grid, magnitude = task.run, task.scene.pair.before.grid, layer.magnitude
    show = Show(writer, "magnitude", TITLE, layer.style, lambda rows, valid: np.where(valid, rows, np.nan))
    small = small_preview(run, show)
    window = view_window(run, grid, task.area, lambda part: part.height * part.width)
    if window is not None:
        stride = magnitude.stride
        view = view_preview(run, show, grid.shrink(stride).crop(window.cells(stride)))
        magnitude.write(task.scene, window, lambda found_HW, valid_HW: view.take(found_HW[None], valid_HW)[0]())
        view.write()
    return small


def _provenance(task: Task, layer: Layer) -> dict[str, str]:
    """Say in an output's metadata where it comes from."""
    return {
        "RSFM_VERSION": __version__,
        "RSFM_METHOD": layer.magnitude.name,
        "RSFM_BEFORE": task.scene.pair.before.name,
        "RSFM_AFTER": task.scene.pair.after.name,
        "RSFM_THRESHOLD": str(layer.threshold),
    }


def _write_changes(task: Task, magnitude_path: Path, layer: Layer, written: Written) -> None:
    """Write objects as a raster and as polygons; the magnitude is read back, strip by strip as it was written."""
    run, objects = task.run, written.objects
    path, polygons_path = run.outputs / "change.tif", run.outputs / POLYGONS_FILE
    done = stage(run, 0.7, 0.9, "Outlines")
    mean_N = objects.weight_N / np.maximum(objects.pixels_N, 1)
    rank_N = rankdata(-mean_N, "ordinal")
    tracer, metadata = Tracer(objects.last_row_N), _provenance(task, layer)
    with open_raster(str(magnitude_path)) as magnitude:
        grid = magnitude.grid
        with (
            RasterWriter(path, Change, grid, band_names=["Difference"], metadata=metadata) as writer,
            PolygonWriter(polygons_path, grid, ["rank", "mean_magnitude", "area_m2"]) as polygons,
        ):
            for index, (height, row) in enumerate(
                zip(written.heights, accumulate(written.heights, initial=0), strict=False)
            ):
                strip = Window(row, 0, height, grid.width)
                pixels_CHW, valid_HW = magnitude.read(strip)
                numbers_HW = objects.label(index, _above(pixels_CHW[0], valid_HW, layer.threshold))
                writer.write(np.where(valid_HW, numbers_HW > 0, Change.nodata).astype(np.uint8)[None])
                for number, polygon in tracer.add(numbers_HW):
                    place = number - 1
                    polygons.add(polygon, int(rank_N[place]), float(mean_N[place]), float(objects.area_N[place]))
                done((strip.row + strip.height) / grid.height)
    run.output("change", path, "Difference")
    if len(objects):
        run.output("change_polygons", polygons_path, "Difference polygons")
    else:
        polygons_path.unlink()


def _above(magnitude_HW: np.ndarray, valid_HW: np.ndarray, threshold: float | None) -> np.ndarray:
    return np.zeros_like(valid_HW) if threshold is None else valid_HW & (magnitude_HW > np.float32(threshold))


def _write_other(task: Task, layer: Layer, title: str, part: tuple[float, float]) -> None:
    """Write a magnitude beside the main one, as a layer without outlines."""
    grid, name = task.grid(layer), layer.magnitude.name
    path = task.run.outputs / ("embedding_difference.tif" if name == "deep" else f"magnitude_{name}.tif")
    done, rows, counter = stage(task.run, *part, title), [0], MagnitudeCounter()
    with RasterWriter(path, Magnitude, grid, band_names=[title], metadata=_provenance(task, layer)) as writer:

        def take(magnitude_HW: np.ndarray, valid_HW: np.ndarray) -> None:
            writer.write(as_stored(magnitude_HW, valid_HW)[None])
            counter.add(magnitude_HW[valid_HW])
            rows[0] += len(valid_HW)
            done(rows[0] / grid.height)

        _write_behind(task, layer, take)
    task.run.output("magnitude", path, title, **{**layer.style, "threshold": None, "cuts": counter.cuts()})


def _device(config: DetectChangeConfig, model_path: str, pair: Pair, run: Run) -> str:
    """Choose the device of the encoder; a model that does not fit is refused at once."""
    from rsfm import model_file  # torch takes seconds, and most comparisons need none
    from rsfm.devices import choose_device

    card = model_file.load(model_path).card
    if not card.units and card.bands != pair.before.bands:
        raise UserError(
            f"The model was trained on {card.bands} bands and the rasters have {pair.before.bands}. Choose a model of "
            f"{pair.before.bands} bands under 'Model', or leave it empty.",
            "model",
        )
    if taught := TIMELESS.get((card.method or {}).get("name", "")):
        run.warning(
            f"{taught} teaches an encoder that a place looks the same at all dates, so that its "
            "'Embedding difference' shows less of what changed. Choose a model of another method under 'Model'."
        )
    unknown = [f"'{date.name}'" for date in (pair.before, pair.after) if date.name not in card.trained_on]
    if unknown and card.trained_on:
        run.note(
            f"As far as the model tells, it did not learn from {' and '.join(unknown)}. What an encoder sees is worth "
            "most when it learned from both dates, with the same place on the other date as its positive."
        )
    return choose_device(config.device, run)


def _area(pair: Pair, area: str | None) -> Window:
    """Return the part of the overlap that is asked for."""
    window = parse_area(pair.before.grid, area).intersection(pair.window)
    if window.height == 0 or window.width == 0:
        raise UserError(
            "The area lies outside the part that the two rasters share. Draw another one under 'Area', or leave it "
            "empty to compare the whole overlap.",
            "area",
        )
    return window


def _result(layer: Layer, measured: Measured, found: list[Finding], extent: Extent, text: str) -> dict[str, Any]:
    return {
        "sentence": text,
        "share_changed": extent.changed / extent.valid,
        "area_changed_m2": extent.changed_m2,
        "polygons": extent.polygons,
        "gate": measured.gate._asdict(),
        "correlations": measured.correlations,
        "shift": shift_result(measured.shift),
        "findings": as_table(found),
        "method": layer.magnitude.name,
        "threshold": layer.threshold,
    }
