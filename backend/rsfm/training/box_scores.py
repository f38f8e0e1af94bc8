"""What a detector is worth on blocks of ground that were held out, beside a plain search for the mean object.

Shape letters: N boxes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.box_inference import BoxNetwork, run_boxes
from rsfm.raster.boxes import BOX, Boxes, centres
from rsfm.raster.grid import Window
from rsfm.raster.seams import ObjectTiles, settle
from rsfm.raster.statistics import Statistics
from rsfm.raster.strips import lay_out
from rsfm.training.average_precision import average_precision
from rsfm.training.box_windows import LabelledRaster
from rsfm.training.template_baseline import find_alike, make_template

OVERLAP = 0.5
BATCH = 4


def find_held_out(
    network: BoxNetwork, labelled: LabelledRaster, tiles: ObjectTiles, device: str, check: Callable[[], None]
) -> Boxes:
    """Return what a network finds in the held out blocks of a raster."""
    raster = labelled.raster
    layout = lay_out(raster.grid, raster.grid.window, tiles.plan)
    rows: list[Boxes] = []

    def near(window: Window) -> NDArray[np.bool_]:
        return labelled.split.held_out(window)

    run_boxes(network, raster, layout, tiles, device, BATCH, rows.append, check, lambda part: None, near)
    boxes_N = np.concatenate([np.empty(0, BOX), *rows])
    return _judged(np.asarray(boxes_N[settle(boxes_N, OVERLAP)]), labelled)


def find_by_template(rasters: list[LabelledRaster], classes: int, statistics: Statistics) -> list[Boxes]:
    """Return the places in the held out blocks of each raster that look like the mean of the learned objects."""
    learned = [(each.raster, each.learned()) for each in rasters]
    found: list[list[Boxes]] = [[np.empty(0, BOX)] for _ in rasters]
    for value in range(1, classes + 1):
        template = make_template(learned, value, statistics)
        for index, labelled in enumerate(rasters):
            if template is not None:
                for window in _held_out_windows(labelled):
                    found[index].append(find_alike(labelled.raster, window, template, value, statistics))
    return [_judged(np.concatenate(boxes), labelled) for boxes, labelled in zip(found, rasters, strict=True)]


def scores(found: list[Boxes], rasters: list[LabelledRaster], names: tuple[str, ...]) -> dict[str, float | None]:
    """Return the AP50 of each class on the held out blocks; None where there is no box to find."""
    truth = [_judged(each.held_out(), each) for each in rasters]
    made = {name: average_precision(found, truth, index + 1) for index, name in enumerate(names)}
    return {name: None if score is None else round(score, 4) for name, score in made.items()}


def mean_score(by_class: dict[str, Any]) -> float | None:
    """Return the mean over the classes that could be judged."""
    known = [score for score in by_class.values() if score is not None]
    return round(float(np.mean(known)), 4) if known else None


def _held_out_windows(labelled: LabelledRaster) -> list[Window]:
    return [block.window for block in labelled.split.blocks(labelled.raster.grid) if block.part == "test"]


def _judged(boxes_N: Boxes, labelled: LabelledRaster) -> Boxes:
    """Return the boxes whose centre lies in a held out block and in the area with all objects, each once."""
    boxes_N = np.unique(boxes_N)
    boxes_N = boxes_N[labelled.split.holds_out(boxes_N)]
    row_N, column_N = (np.floor(at_N).astype(int) for at_N in centres(boxes_N))
    inside_N = [
        bool(labelled.area.inside(Window(int(row), int(column), 1, 1))[0, 0])
        and Window(int(row), int(column), 1, 1).intersection(labelled.area.window).height == 1
        for row, column in zip(row_N, column_N, strict=True)
    ]
    return np.asarray(boxes_N[np.array(inside_N, bool)])
