"""What became what: the classes of both dates by a model of classes, counted where the map of change says so.

Shape letters: K classes, V values of a raster of classes, H rows, W columns.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.differences.two_dates import TwoDates, open_dates
from rsfm.inference import TileNetwork, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.mapping import provenance
from rsfm.model_file import ClassName, Model
from rsfm.networks import head_network
from rsfm.outputs.classes import Classes
from rsfm.raster.grid import Grid, Window
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.resampled import Nearest
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run
from rsfm.segmentation import labels

VALUES = 256
STRIP_PIXELS = 2**22
DOUBTFUL = 0.5
"""Share of what changed that has one class at both dates, from which on the two maps contradict each other."""


class Counts(NamedTuple):
    """Square metres by the class before, in rows, and after, in columns."""

    changed_VV: NDArray[np.float64]
    unchanged_VV: NDArray[np.float64]


class Consistency(NamedTuple):
    """How far the map of change and those of classes agree.

    Attributes:
        same_class: share of what changed that has one class at both dates.
        other_class: share of what did not change that has another class.
    """

    same_class: float
    other_class: float


def tell_from_to(config: DetectChangeConfig, run: Run) -> dict[str, Any]:
    """Map the classes of both dates and count what became what, where the run's map of change is there.

    Returns:
        from_to_m2: class before -> class after -> square metres that changed; from_to: a sentence; same_class_share,
        other_class_share.

    Raises:
        UserError: the model knows no classes of pixels, or does not fit the rasters.
    """
    assert config.classes is not None  # noqa: S101  the job asks for this with a model only
    device = choose_device(config.device, run)
    model = model_file.load(config.classes, "classes")
    network = head_network(model).to(device)
    with open_dates(config, model) as dates:
        window = dates.part(config.area)
        for date, raster in (("before", dates.pair.before), ("after", dates.pair.after)):
            _map_classes(network, model, raster, window, date, device, run)
        counts = count_from_to(run, dates, window)
    classes = model.card.classes
    agreement = consistency(counts, [each.value for each in classes])
    text = sentence(counts, classes, agreement)
    run.warning(text) if agreement.same_class > DOUBTFUL else run.note(text)
    return {
        "from_to": text,
        "from_to_m2": {
            one.name: {other.name: round(float(counts.changed_VV[one.value, other.value]), 1) for other in classes}
            for one in classes
        },
        "same_class_share": round(agreement.same_class, 4),
        "other_class_share": round(agreement.other_class, 4),
    }


def count_from_to(run: Run, dates: TwoDates, window: Window) -> Counts:
    """Read the map of change and those of classes, strip by strip."""
    grid = dates.grid.crop(window)
    areas, counts = GroundArea(grid), Counts(np.zeros((VALUES, VALUES)), np.zeros((VALUES, VALUES)))
    with ExitStack() as stack:
        files = [run.outputs / f"{name}.tif" for name in ("change", "classes_before", "classes_after")]
        opened = [stack.enter_context(open_raster(str(path))) for path in files]
        rasters = [Nearest(raster, grid) for raster in opened]  # a map of change may have larger cells
        for strip in _strips(grid):
            run.check()
            (change_HW, before_HW, after_HW), valid = zip(*(_read(raster, strip) for raster in rasters), strict=True)
            valid_HW = np.logical_and.reduce(valid)
            pair_HW = before_HW.astype(np.int64) * VALUES + after_HW
            areas_HW = areas.read(strip)
            for wanted_HW, total_VV in zip((change_HW > 0, change_HW == 0), counts, strict=True):
                chosen_HW = wanted_HW & valid_HW
                found = np.bincount(pair_HW[chosen_HW], areas_HW[chosen_HW], VALUES**2)
                total_VV += found.reshape(VALUES, VALUES)
    return counts


def consistency(counts: Counts, values: Sequence[int]) -> Consistency:
    """Tell how far the maps agree; 0 where nothing contradicts."""
    changed_KK, unchanged_KK = (found_VV[np.ix_(values, values)] for found_VV in counts)
    same = float(np.trace(changed_KK) / changed_KK.sum()) if changed_KK.any() else 0.0
    stayed = float(np.trace(unchanged_KK) / unchanged_KK.sum()) if unchanged_KK.any() else 1.0
    return Consistency(same, 1 - stayed)


def sentence(counts: Counts, classes: Sequence[ClassName], agreement: Consistency) -> str:
    """Say what mostly became what, and how far the maps agree."""
    found = [
        (float(counts.changed_VV[one.value, other.value]), one.name, other.name)
        for one in classes
        for other in classes
        if one.value != other.value
    ]
    area, before, after = max(found, default=(0.0, "", ""))
    total = float(counts.changed_VV.sum())
    said = f"{area / total:.0%} of what changed went from {before} to {after}. " if total and area else ""
    text = (
        f"{said}{agreement.same_class:.0%} of what changed has the same class at both dates, and "
        f"{agreement.other_class:.0%} of what did not change has another one: there the maps contradict each other."
    )
    if agreement.same_class > DOUBTFUL:
        text += " Do not trust the table: teach the classes on both dates, or look at the map of change."
    return text.replace("%", " %")


def _map_classes(
    network: TileNetwork, model: Model, raster: Raster, window: Window, date: str, device: str, run: Run
) -> None:
    path, grid = run.outputs / f"classes_{date}.tif", raster.grid.crop(window)
    palette = {name.value: _channels(name.colour) for name in model.card.classes}
    metadata = provenance(model, raster, "{}", device)
    with RasterWriter(path, Classes, grid, colours=palette, metadata=metadata, check=run.check) as writer:

        def write(logits_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
            writer.write(labels(logits_KHW, valid_HW))

        def report(part: float) -> None:
            run.progress(part, f"Classes {date}")

        run_tiles(
            network,
            raster,
            window,
            TilingConfig(),
            device,
            usual_batch(network, TilingConfig()),
            write,
            run.check,
            report,
        )
    style = [name.model_dump() for name in model.card.classes]
    run.output("classes", path, f"Classes {date}", classes=style)


def _read(raster: Raster, strip: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    pixels_1HW, valid_HW = raster.read_native(strip)
    return pixels_1HW[0], valid_HW


def _strips(grid: Grid) -> list[Window]:
    height = max(1, STRIP_PIXELS // grid.width)
    return [Window(row, 0, min(height, grid.height - row), grid.width) for row in range(0, grid.height, height)]


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
