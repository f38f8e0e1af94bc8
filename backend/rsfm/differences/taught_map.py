"""Maps of change by a model that was taught it: what changed, how sure that is, and outlines.

Shape letters: K classes (0 is no change), H rows, W columns, N objects.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as FileWindow

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.differences.change_network import DatesNetwork, load_change_network
from rsfm.differences.checking import shift_result, stage, tell_alignment
from rsfm.differences.learned_pair import alignment_for, reads_by_name
from rsfm.differences.shown_changes import keep_changes
from rsfm.differences.teaching import tiling
from rsfm.differences.two_dates import TwoDates, open_dates
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.mapping import MAPPED, Place, map_rows, provenance, reported
from rsfm.model_file import Model
from rsfm.outputs.change import Change
from rsfm.outputs.confidence import Confidence
from rsfm.preview import Show
from rsfm.raster.area import Area
from rsfm.raster.background import Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.largest import find_largest
from rsfm.raster.objects import ObjectFinder, Objects
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import check_has_valid_pixels
from rsfm.raster.tracing import Tracer
from rsfm.raster.writer import RasterWriter
from rsfm.result_words import area as area_text
from rsfm.runs import Run
from rsfm.segmentation import softmax_of_largest
from rsfm.unfinished import Unfinished, common_row

CHANGE_FILE, CONFIDENCE_FILE, POLYGONS_FILE = "change.tif", "confidence.tif", "change.gpkg"
FIELDS = ("rank", "kind", "confidence", "area_m2")
STRIP_PIXELS = 2**22


class Extent(NamedTuple):
    """Square metres that are valid, those of each kind of change by its value, and the number of polygons."""

    valid_m2: float
    changed_m2: dict[int, float]
    polygons: int


def map_change(config: DetectChangeConfig, run: Run) -> dict[str, Any]:
    """Write the map of changes, its confidence and its polygons.

    Raises:
        UserError: the model was not taught change, or does not fit the rasters.
    """
    assert config.model is not None  # noqa: S101  the job asks for this with a model only
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    network = load_change_network(model)
    head = model.card.head or {}
    with open_dates(config, model, stage(run, 0, 0, "Looking for a shift")) as dates:
        for note in dates.pair.notes:
            run.warning(note)
        if reads_by_name(model.card):
            run.note(f"The model finds bands by their names: {', '.join(model.card.band_names)}.")
        tell_alignment(alignment_for(model.card, dates.shift, config.correct_shift), config.correct_shift, run)
        area = Area(dates.part(config.area))
        check_has_valid_pixels(dates)
        statistics = dates.statistics(None if head.get("by_date") else model.card.statistics)
        tiles = DatesNetwork(network, statistics, len(model.card.classes) + 1).to(device)
        place = Place(dates, area, tiling(config.tile_size or model.card.window), device)
        others = (dates.pair.after.raster,)
        with Unfinished(run, dates, config.model, config.model_dump_json(), *others) as unfinished:
            _map_rasters(tiles, place, model, config, unfinished, run)
        extent = _outline(run, model, dates.grid.crop(area.window), config.minimum_area)
        keep_changes(run, dates.pair, run.outputs / POLYGONS_FILE, _why_no_polygons(config))
    return {**_result(extent, model, run), "shift": shift_result(dates.shift)}


def labels(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the kind of change of rows, bands first: 0 is none."""
    return _with_largest(logits_KHW, valid_HW)[0][None]


def _with_largest(
    logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the kind of each pixel, and its logit."""
    number_HW, largest_HW = find_largest(logits_KHW, valid_HW, 0)
    number_HW -= 1
    number_HW[~valid_HW] = Change.nodata
    return number_HW, largest_HW


def _map_rasters(
    tiles: DatesNetwork, place: Place, model: Model, config: DetectChangeConfig, unfinished: Unfinished, run: Run
) -> None:
    """Write the rasters, from where an earlier start ended."""
    dates = place.raster
    assert isinstance(dates, TwoDates)  # noqa: S101  so `map_change` made it
    grid = dates.grid.crop(place.area.window)
    metadata = provenance(model, dates, config.model_dump_json(), place.device) | {
        "RSFM_BEFORE": dates.pair.before.name,
        "RSFM_AFTER": dates.pair.after.name,
    }
    options: dict[str, Any] = {"metadata": metadata, "unfinished": unfinished.folder, "check": run.check}
    outputs = run.outputs
    with reported(outputs / CHANGE_FILE, lambda: _report(model, run)), ExitStack() as stack:
        writers = [
            stack.enter_context(RasterWriter(outputs / CHANGE_FILE, Change, grid, band_names=["Change"], **options)),
            stack.enter_context(
                RasterWriter(outputs / CONFIDENCE_FILE, Confidence, grid, band_names=["Confidence"], **options)
            ),
        ]

        def finish(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            label_HW, largest_HW = _with_largest(logits_KHW, valid_HW)
            maps: list[NDArray[Any]] = [label_HW[None], softmax_of_largest(logits_KHW, largest_HW, valid_HW)[None]]

            def write() -> None:
                for writer, rows_CHW in zip(writers, maps, strict=True):
                    writer.write(rows_CHW)

            return write, sum(rows_CHW.nbytes for rows_CHW in maps)

        show = Show(writers[0], "change", "Change", _style(model), labels)
        map_rows(tiles, place, common_row(*writers), unfinished, finish, run, show)


def _report(model: Model, run: Run) -> None:
    run.output("change", run.outputs / CHANGE_FILE, "Change", **_style(model))
    run.output("confidence", run.outputs / CONFIDENCE_FILE, "Confidence", minimum=0, maximum=1)


def _style(model: Model) -> dict[str, Any]:
    return {"classes": [name.model_dump() for name in model.card.classes]}


def _outline(run: Run, model: Model, grid: Grid, minimum_area: float) -> Extent:
    """Outline what changed, the surest and largest first in rank; the rasters are read back."""
    height = max(1, STRIP_PIXELS // grid.width)
    strips = [Window(row, 0, min(height, grid.height - row), grid.width) for row in range(0, grid.height, height)]
    areas, finder, valid_m2 = GroundArea(grid), ObjectFinder(), 0.0
    done = _stage(run, 2 * len(strips))
    with ExitStack() as stack:
        change, confidence = (
            stack.enter_context(rasterio.open(run.outputs / name)) for name in (CHANGE_FILE, CONFIDENCE_FILE)
        )
        for strip in strips:
            values_HW, areas_HW = _read(change, strip), areas.read(strip)
            valid_m2 += float(areas_HW[values_HW != Change.nodata].sum())
            finder.add(_changed(values_HW), areas_HW, np.nan_to_num(_read(confidence, strip)))
            done()
        objects = finder.finish()
        objects = objects.keep(objects.area_N >= minimum_area)
        with PolygonWriter(run.outputs / POLYGONS_FILE, grid, FIELDS) as writer:
            _write_polygons(change, strips, objects, model, writer, done)
    if len(objects):
        run.output("change_polygons", run.outputs / POLYGONS_FILE, "Change polygons")
    else:
        (run.outputs / POLYGONS_FILE).unlink()
    kinds = [name.value for name in model.card.classes]
    changed_m2 = {value: float(objects.area_N[objects.value_N == value].sum()) for value in kinds}
    return Extent(valid_m2, changed_m2, len(objects))


def _why_no_polygons(config: DetectChangeConfig) -> str:
    if config.minimum_area > 0:
        return (
            f"Nothing is outlined: the model finds no change as large as {area_text(config.minimum_area)}. Give a "
            "smaller area under 'Minimum area' to outline smaller ones."
        )
    return "Nothing is outlined: the model finds no change of what it was taught."


def _write_polygons(
    change: Any, strips: list[Window], objects: Objects, model: Model, writer: PolygonWriter, done: Callable[[], None]
) -> None:
    names = {name.value: name.name for name in model.card.classes}
    mean_N = objects.weight_N / np.maximum(objects.pixels_N, 1)
    rank_N = np.empty(len(objects), int)
    rank_N[np.argsort(-mean_N * objects.area_N, kind="stable")] = np.arange(1, len(objects) + 1)
    tracer = Tracer(objects.last_row_N)
    for index, strip in enumerate(strips):
        for number, polygon in tracer.add(objects.label(index, _changed(_read(change, strip)))):
            at = number - 1
            kind = names[int(objects.value_N[at])]
            writer.add(polygon, int(rank_N[at]), kind, round(float(mean_N[at]), 4), round(float(objects.area_N[at]), 3))
        done()


def _read(dataset: Any, strip: Window) -> NDArray[Any]:
    window = FileWindow(strip.column, strip.row, strip.width, strip.height)
    return np.asarray(dataset.read(1, window=window))


def _changed(values_HW: NDArray[Any]) -> NDArray[Any]:
    return np.where(values_HW == Change.nodata, 0, values_HW)


def _stage(run: Run, steps: int) -> Callable[[], None]:
    """Return what reports one of so many steps, and lets the user end the work there."""
    count = 0

    def done() -> None:
        nonlocal count
        count += 1
        run.check()
        run.progress(MAPPED + (1 - MAPPED) * count / steps, "Outlines")

    return done


def _result(extent: Extent, model: Model, run: Run) -> dict[str, Any]:
    names = {name.value: name.name for name in model.card.classes}
    total = sum(extent.changed_m2.values())
    share = total / extent.valid_m2 if extent.valid_m2 else 0.0
    said = f"{area_text(total)} of {area_text(extent.valid_m2)} changed ({share:.1%})".replace("%", " %")
    sentence = f"{said}, in {extent.polygons} places, as '{Path(model.card.title).name}' was taught."
    run.note(sentence)
    return {
        "sentence": sentence,
        "share_changed": share,
        "area_changed_m2": total,
        "polygons": extent.polygons,
        "area_m2": {names[value]: round(found, 1) for value, found in extent.changed_m2.items()},
        "method": (model.card.head or {})["name"],
    }
