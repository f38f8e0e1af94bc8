"""Maps of classes: labels, confidence and polygons.

Shape letters: K classes, H rows, W columns.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.inference import TileNetwork
from rsfm.jobs.segment import SegmentConfig
from rsfm.mapping import MAPPED, Place, map_rows, provenance, reported
from rsfm.model_file import Model
from rsfm.networks import head_network
from rsfm.outputs.classes import Classes
from rsfm.outputs.confidence import Confidence
from rsfm.outputs.probability import Probability
from rsfm.preview import Show
from rsfm.raster.area import read_area
from rsfm.raster.background import Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.largest import find_largest
from rsfm.raster.polygons import Outlines, TooManyPolygons, polygonise
from rsfm.raster.reader import check_has_valid_pixels
from rsfm.raster.writer import READ_ROWS, RasterWriter
from rsfm.result_words import area as area_text
from rsfm.runs import Run
from rsfm.training.finetuning import open_for
from rsfm.unfinished import Unfinished, common_row

CLASSES_FILE, CONFIDENCE_FILE, PROBABILITY_FILE = "segmentation.tif", "confidence.tif", "probability.tif"
POLYGONS_FILE = "segmentation.gpkg"
NAMED_CLASSES = 4
OTHER_SIDE = 2
"""Tiles that are more than so many times larger or smaller than the windows of a decoder are warned of."""


def segment(config: SegmentConfig, run: Run) -> dict[str, Any]:
    """Write the map of classes, its confidence and its polygons as the config asks."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    network = head_network(model).to(device)
    _warn_of_window(model, config, run)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        place = Place(raster, area, config.tiling, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            area_V = _map_classes(network, place, model, config, unfinished, run)
    names = {name.value: name.name for name in model.card.classes}
    if config.polygons:
        _polygons(config, run, names, model)
    areas = {name: round(float(area_V[value]), 1) for value, name in names.items()}
    return {"sentence": sentence(areas), "area_m2": areas}


def _map_classes(
    network: TileNetwork, place: Place, model: Model, config: SegmentConfig, unfinished: Unfinished, run: Run
) -> NDArray[np.float64]:
    """Write the rasters, from where an earlier start ended, and measure the area of each class."""
    grid = place.raster.grid.crop(place.area.window)
    areas = GroundArea(grid)
    area_V = np.zeros(256)

    def measure(label_HW: NDArray[np.uint8], row: int) -> None:
        areas_HW = areas.read(Window(row, 0, *label_HW.shape))
        np.add(area_V, np.bincount(label_HW.ravel(), areas_HW.ravel(), 256), out=area_V)

    with reported(run.outputs / CLASSES_FILE, lambda: _report_rasters(config, run, model)), ExitStack() as stack:
        metadata = provenance(model, place.raster, config.model_dump_json(), place.device)
        writers = [stack.enter_context(writer) for writer in _writers(config, model, grid, metadata, unfinished, run)]
        row = next_row = common_row(*writers)
        for index, rows_CHW in enumerate(writers[0].done(row)):
            measure(rows_CHW[0], index * READ_ROWS)

        def finish(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            maps = _maps(logits_KHW, valid_HW, config)

            def write() -> None:
                nonlocal next_row
                for writer, rows_CHW in zip(writers, maps, strict=True):
                    writer.write(rows_CHW)
                measure(maps[0][0], next_row)
                next_row += len(valid_HW)

            return write, sum(rows_CHW.nbytes for rows_CHW in maps)

        show = Show(writers[0], "classes", _title(config), _style(model), labels)
        map_rows(network, place, row, unfinished, finish, run, show)
    return area_V


def _warn_of_window(model: Model, config: SegmentConfig, run: Run) -> None:
    """A decoder joins what the whole of a tile holds, so that other sizes than it learnt with change what it sees."""
    side, learnt = config.tiling.tile_size, model.card.window
    if model.decodes and side and learnt and max(side / learnt, learnt / side) > OTHER_SIDE:
        run.warning(
            f"The model learnt with windows of {learnt} px and tiles are {side} px, in which it may see other things "
            f"than it was taught. Set 'Tile size' to 0 or to {learnt} px."
        )


def labels(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the classes of rows, bands first."""
    return find_largest(logits_KHW, valid_HW, Classes.nodata)[0][None]


def _writers(
    config: SegmentConfig, model: Model, grid: Grid, metadata: dict[str, str], unfinished: Unfinished, run: Run
) -> Iterator[RasterWriter]:
    """Make the writers of classes, confidence and probabilities, as the config asks."""
    options: dict[str, Any] = {"metadata": metadata, "unfinished": unfinished.folder, "check": run.check}
    yield RasterWriter(run.outputs / CLASSES_FILE, Classes, grid, colours=_palette(model), **options)
    if config.confidence:
        yield RasterWriter(run.outputs / CONFIDENCE_FILE, Confidence, grid, **options)
    if config.probabilities:
        names = [name.name for name in model.card.classes]
        yield RasterWriter(run.outputs / PROBABILITY_FILE, Probability, grid, len(names), names, **options)


def _maps(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_], config: SegmentConfig) -> list[NDArray[Any]]:
    """Return the rows of each raster, bands first, in the order of the writers."""
    label_HW, largest_HW = find_largest(logits_KHW, valid_HW, Classes.nodata)
    maps: list[NDArray[Any]] = [label_HW[None]]
    if config.confidence or config.probabilities:
        share_HW = softmax_of_largest(logits_KHW, largest_HW, valid_HW)
    if config.confidence:
        maps.append(share_HW[None])
    if config.probabilities:
        maps.append(probabilities(logits_KHW, share_HW))
    return maps


def softmax_of_largest(
    logits_KHW: NDArray[np.float32], largest_HW: NDArray[np.float32], valid_HW: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the softmax of the largest logit of each pixel, NaN where invalid."""
    total_HW, part_HW = np.zeros(valid_HW.shape, np.float32), np.empty(valid_HW.shape, np.float32)
    for logits_HW in logits_KHW:
        np.exp(np.subtract(logits_HW, largest_HW, out=part_HW), out=part_HW)
        total_HW += part_HW
    np.divide(1, total_HW, out=total_HW)
    np.copyto(total_HW, np.nan, where=~valid_HW)
    return total_HW


def probabilities(logits_KHW: NDArray[np.float32], share_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the softmax of each class as the kind stores it.

    Args:
        share_HW: the largest softmax of each pixel, NaN where invalid.
    """
    best_HW = logits_KHW.max(axis=0)
    stored_KHW = np.empty(logits_KHW.shape, np.uint8)
    full_HW = np.where(np.isnan(share_HW), 0, share_HW / np.float32(Probability.scale))
    for logits_HW, stored_HW in zip(logits_KHW, stored_KHW, strict=True):
        stored_HW[:] = np.rint(np.exp(logits_HW - best_HW) * full_HW)
    stored_KHW[:, np.isnan(share_HW)] = Probability.nodata
    return stored_KHW


def sentence(areas: Mapping[str, float]) -> str:
    """Say what was mapped: the whole area and the largest classes."""
    total = sum(areas.values())
    largest = sorted(areas, key=lambda name: -areas[name])
    shares = [f"{name} {areas[name] / total:.0%}".replace("%", " %") for name in largest[:NAMED_CLASSES] if total]
    others = len(largest) - len(shares)
    parts = [*shares, *([f"{others} other{'s' if others > 1 else ''}"] if shares and others else [])]
    return f"Mapped {area_text(total)}: {', '.join(parts)}." if parts else "No pixel of the area is valid."


def _palette(model: Model) -> dict[int, tuple[int, int, int]]:
    def channels(colour: str) -> tuple[int, int, int]:
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

    return {name.value: channels(name.colour) for name in model.card.classes}


def _title(config: SegmentConfig) -> str:
    return f"Classes of {Path(config.raster).stem}"


def _style(model: Model) -> dict[str, Any]:
    return {"classes": [name.model_dump() for name in model.card.classes]}


def _report_rasters(config: SegmentConfig, run: Run, model: Model) -> None:
    run.output("classes", run.outputs / CLASSES_FILE, _title(config), **_style(model))
    if config.confidence:
        run.output("confidence", run.outputs / CONFIDENCE_FILE, "Confidence", minimum=0, maximum=1)
    if config.probabilities:
        run.output("probability", run.outputs / PROBABILITY_FILE, "Probability of the classes", **_style(model))


def _polygons(config: SegmentConfig, run: Run, names: dict[int, str], model: Model) -> None:
    def done(part: float) -> None:
        run.check()
        run.progress(MAPPED + (1 - MAPPED) * part, "Polygons")

    target = run.outputs / POLYGONS_FILE
    outlines = Outlines(config.minimum_area, config.fill_holes, config.smoothing)
    confidence = run.outputs / CONFIDENCE_FILE if config.confidence else None
    try:
        polygonise(run.outputs / CLASSES_FILE, target, names, outlines, done=done, confidence_path=confidence)
    except TooManyPolygons as error:
        run.warning(f"No polygons were made. {error}")
        return
    run.output("polygons", target, "Polygons of the classes", **_style(model))
