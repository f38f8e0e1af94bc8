"""A quick look at a raster's pixels: a few small windows say whether they can be read, and what they are like."""

import contextlib
from typing import Any, NamedTuple

import numpy as np
from rasterio._err import CPLE_BaseError

from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, short_name

BLOCK_BYTES = 2**26
"""Rasters whose pixels come in larger pieces are not looked at: one look would read the whole file."""
EXACT_PIXELS = 2**22
SIDE = 96
LARGE_BLOCK = 2**19
"""Of blocks of more pixels three are looked at in place of five."""


class Look(NamedTuple):
    """What was seen.

    Attributes:
        valid: share of valid pixels; None if not looked at.
        low, high: of all bands; nan where nothing is valid.
        floor: 99 of 100 values are at least this.
        values: of a single band of whole numbers, as far as there are few.
        problem: why the pixels cannot be used, in a sentence.
    """

    valid: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    floor: float = float("nan")
    values: tuple[int, ...] = ()
    problem: str = ""


def look(path: str, dataset: Any) -> Look:
    """Read a few windows of a raster that `find_problem` finds usable but for its CRS."""
    if _largest_piece(dataset) > BLOCK_BYTES:
        return Look()
    raster = Raster(path, dataset, "rasters")  # not closed here: the dataset is the caller's
    grid = raster.grid
    small = raster.bands * grid.height * grid.width <= EXACT_PIXELS
    windows = [grid.window] if small else _places(grid.window, *dataset.block_shapes[0])
    try:
        found = [raster.read_native(window) for window in windows]
    except UserError as error:
        _forget_error(dataset)
        return Look(problem=str(error))
    parts = [pixels_CHW[:, valid_HW] for pixels_CHW, valid_HW in found]
    seen = sum(valid_HW.size for _, valid_HW in found)
    pixels_CN = np.concatenate(parts, axis=1)
    if pixels_CN.shape[1] == 0:
        marker = "" if raster.nodata is None else f" ({raster.nodata:g})"
        problem = (
            f"'{short_name(path)}' holds no valid pixel: all are nodata{marker}. Leave it out, or correct its "
            "nodata value in QGIS with 'Translate (convert format)'."
        )
        return Look(valid=0.0, problem=problem if small else "")
    whole = raster.bands == 1 and raster.dtype.kind in "iu"
    values = np.unique(pixels_CN) if whole else np.zeros(0, int)
    return Look(
        valid=round(pixels_CN.shape[1] / seen, 4),
        low=float(pixels_CN.min()),
        high=float(pixels_CN.max()),
        floor=float(np.quantile(pixels_CN[:, :: max(1, pixels_CN.shape[1] // 4096)], 0.01)),
        values=tuple(int(value) for value in values[:64]) if len(values) <= 64 else (),
    )


def _forget_error(dataset: Any) -> None:
    """Take the error of a failed read out of GDAL, which would tell it to the next who asks this thread anything."""
    with contextlib.suppress(CPLE_BaseError):
        _ = dataset.colorinterp


def _places(whole: Window, height: int, width: int) -> list[Window]:
    """Return small windows near the corners and in the middle, each within one block of the file, or a few strips."""
    height = min(max(height, SIDE), whole.height)
    rows, columns = max(whole.height // height - 1, 0), max(whole.width // width - 1, 0)
    sixths = ((1, 1), (1, 5), (3, 3), (5, 1), (5, 5)) if height * width <= LARGE_BLOCK else ((1, 1), (3, 3), (5, 5))
    blocks = sorted({(rows * down // 6, columns * across // 6) for down, across in sixths})
    windows = [Window(row * height, column * width, height, width).intersection(whole) for row, column in blocks]
    return [_middle(window) for window in windows]


def _middle(window: Window) -> Window:
    height, width = min(SIDE, window.height), min(SIDE, window.width)
    row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
    return Window(row, column, height, width)


def _largest_piece(dataset: Any) -> int:
    """Return how many bytes must be decoded at once for any pixel."""
    pieces = [
        height * width * np.dtype(dtype).itemsize
        for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True)
    ]
    together = dataset.interleaving is not None and dataset.interleaving.name == "pixel"
    return sum(pieces) if together else max(pieces)
