"""Maps of classes: labels, confidence and polygons.

Shape letters: K classes, H rows, W columns.
"""

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
from rsfm.preview import Show
from rsfm.raster.area import read_area
from rsfm.raster.background import Work
from rsfm.raster.polygons import polygonise
from rsfm.raster.reader import check_has_valid_pixels
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.training.finetuning import open_for
from rsfm.unfinished import Unfinished, common_row

CLASSES_FILE, CONFIDENCE_FILE = "segmentation.tif", "confidence.tif"
CLASSES_NODATA = 255


def segment(config: SegmentConfig, run: Run) -> dict[str, Any]:
    """Write the map of classes, its confidence and its polygons as the config asks."""
    device = choose_device(config.device, run)
    model = model_file.load(config.model)
    network = head_network(model).to(device)
    with open_for(model, config.raster) as raster:
        area = read_area(raster.grid, config.area)
        check_has_valid_pixels(raster)
        place = Place(raster, area, config.tiling, device)
        with Unfinished(run, raster, config.model, config.model_dump_json()) as unfinished:
            counts = _map_classes(network, place, model, config, unfinished, run)
        grid = raster.grid.crop(area.window)
    names = {name.value: name.name for name in model.card.classes}
    if config.polygons:
        _polygons(config, run, names, model)
    return {
        "area_m2": {name: round(float(counts[value] * grid.pixel_area), 1) for value, name in names.items()},
    }


def _map_classes(
    network: TileNetwork, place: Place, model: Model, config: SegmentConfig, unfinished: Unfinished, run: Run
) -> NDArray[np.int64]:
    """Write classes and confidence, from where an earlier start ended, and count the pixels of each class."""
    grid = place.raster.grid.crop(place.area.window)
    options: dict[str, Any] = {
        "metadata": provenance(model, place.raster, config.model_dump_json(), place.device),
        "unfinished": unfinished.folder,
        "check": run.check,
    }
    counts = np.zeros(256, np.int64)
    with reported(run.outputs / CLASSES_FILE, lambda: _report_segmentation(config, run, model)), ExitStack() as stack:
        writers = [
            stack.enter_context(
                RasterWriter(run.outputs / CLASSES_FILE, Classes, grid, colours=_palette(model), **options)
            )
        ]
        if config.confidence:
            path = run.outputs / CONFIDENCE_FILE
            writers.append(stack.enter_context(RasterWriter(path, Confidence, grid, **options)))
        row = common_row(*writers)
        for rows_CHW in writers[0].done(row):
            np.add(counts, np.bincount(rows_CHW.ravel(), minlength=256), out=counts)

        def finish(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
            label_HW, share_HW = classify(logits_KHW, valid_HW)
            maps: tuple[NDArray[Any], ...] = (label_HW, share_HW)

            def write() -> None:
                for writer, rows_HW in zip(writers, maps, strict=False):
                    writer.write(rows_HW[None])
                np.add(counts, np.bincount(label_HW.ravel(), minlength=256), out=counts)

            return write, label_HW.nbytes + share_HW.nbytes

        show = Show(writers[0], "classes", _title(config), _style(model), lambda *rows: classify(*rows)[0][None])
        map_rows(network, place, row, unfinished, finish, run, show)
    return counts


def classify(
    logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the class of each pixel, 1 for the first and 255 where invalid, and its softmax, NaN where invalid."""
    label_HW = np.zeros(valid_HW.shape, np.uint8)
    best_HW = logits_KHW[0].copy()
    for index in range(1, len(logits_KHW)):  # eight times as fast as argmax on the CPU
        better_HW = logits_KHW[index] > best_HW
        label_HW[better_HW] = index
        np.maximum(best_HW, logits_KHW[index], out=best_HW)
    total_HW = np.zeros(valid_HW.shape, np.float32)
    for logits_HW in logits_KHW:
        total_HW += np.exp(logits_HW - best_HW)
    label_HW += 1
    label_HW[~valid_HW] = CLASSES_NODATA
    return label_HW, np.where(valid_HW, 1 / total_HW, np.nan).astype(np.float32)


def _palette(model: Model) -> dict[int, tuple[int, int, int]]:
    def channels(colour: str) -> tuple[int, int, int]:
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)

    return {name.value: channels(name.colour) for name in model.card.classes}


def _title(config: SegmentConfig) -> str:
    return f"Classes of {Path(config.raster).stem}"


def _style(model: Model) -> dict[str, Any]:
    return {"classes": [name.model_dump() for name in model.card.classes]}


def _report_segmentation(config: SegmentConfig, run: Run, model: Model) -> None:
    run.output("classes", run.outputs / CLASSES_FILE, _title(config), **_style(model))
    if config.confidence:
        run.output("confidence", run.outputs / CONFIDENCE_FILE, "Confidence", minimum=0, maximum=1)


def _polygons(config: SegmentConfig, run: Run, names: dict[int, str], model: Model) -> None:
    def done(part: float) -> None:
        run.check()
        run.progress(MAPPED + (1 - MAPPED) * part, "Polygons")

    target = run.outputs / "segmentation.gpkg"
    polygonise(run.outputs / CLASSES_FILE, target, names, config.minimum_area, "class", done)
    run.output("polygons", target, "Polygons of the classes", **_style(model))
