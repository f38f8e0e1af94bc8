"""What a detector must beat: the places that look most like the mean of the taught objects.

Normalised cross-correlation with the mean brightness of each class (Lewis, 1995, "Fast Normalized Cross-Correlation");
its local maxima are boxes of the class's usual size.

Shape letters: H rows, W columns, N boxes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.feature import match_template, peak_local_max
from skimage.transform import resize

from rsfm.raster.boxes import BOX, Boxes, corners, make_boxes
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster
from rsfm.raster.statistics import Statistics

LEAST_LIKENESS = 0.1
MOST_EXAMPLES = 200
Brightness = NDArray[np.float32]


def make_template(rasters: Sequence[tuple[Raster, Boxes]], value: int, statistics: Statistics) -> Brightness | None:
    """Return the mean brightness of a class's boxes, brought to their median size; None without boxes."""
    sizes = np.concatenate([_sizes(boxes_N[boxes_N["value"] == value]) for _, boxes_N in rasters])
    if not len(sizes):
        return None
    shape = np.maximum(np.median(sizes, axis=0).round().astype(int), 2)
    examples: list[Brightness] = []
    for raster, boxes_N in rasters:
        for left, top, right, bottom in corners(boxes_N[boxes_N["value"] == value]).round().astype(int):
            if len(examples) < MOST_EXAMPLES:
                window = Window(int(top), int(left), max(int(bottom - top), 1), max(int(right - left), 1))
                examples.append(resize(_brightness(raster, window, statistics), shape))  # type: ignore[no-untyped-call]
    return np.asarray(np.mean(examples, axis=0), np.float32)


def find_alike(raster: Raster, window: Window, template: Brightness, value: int, statistics: Statistics) -> Boxes:
    """Return the boxes of a window, in pixels of the raster, that look like a template."""
    height, width = template.shape
    around = Window(window.row - height, window.column - width, window.height + 2 * height, window.width + 2 * width)
    likeness_HW = match_template(_brightness(raster, around, statistics), template, pad_input=True)  # type: ignore[no-untyped-call]
    apart = max(1, min(height, width) // 2)
    peaks_N2 = peak_local_max(likeness_HW, min_distance=apart, threshold_abs=LEAST_LIKENESS, exclude_border=False)  # type: ignore[no-untyped-call]
    if not len(peaks_N2):
        return np.empty(0, BOX)
    row_N, column_N = peaks_N2.T + 0.5 + np.array([[around.row], [around.column]])
    corners_N4 = np.stack([column_N - width / 2, row_N - height / 2, column_N + width / 2, row_N + height / 2], axis=1)
    return make_boxes(corners_N4, likeness_HW[tuple(peaks_N2.T)], np.full(len(peaks_N2), value))


def _sizes(boxes_N: Boxes) -> NDArray[np.float64]:
    return np.stack([boxes_N["bottom"] - boxes_N["top"], boxes_N["right"] - boxes_N["left"]], axis=1)


def _brightness(raster: Raster, window: Window, statistics: Statistics) -> Brightness:
    """Return the mean of the standardised bands, 0 where invalid."""
    pixels_CHW, valid_HW = raster.read(window)
    mean_C11, std_C11 = (np.array(values)[:, None, None] for values in (statistics.mean, statistics.std))
    return np.asarray(np.where(valid_HW, ((pixels_CHW - mean_C11) / std_C11).mean(0), 0), np.float32)
