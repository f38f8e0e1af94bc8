"""What a file itself says of which pixels are valid: nodata, masks, alpha.

Shape letters: H rows, W columns.
"""

import contextlib
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as FileWindow

from rsfm.raster.grid import Window


def find_alpha(dataset: Any) -> int | None:
    """Return the number of the alpha band, when it is one.

    GDAL marks the fourth band of any 8-bit raster as alpha, also where it is near infrared; a true one is opaque or
    transparent nearly everywhere.
    """
    for number, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True):
        if meaning == ColorInterp.alpha and _looks_like_alpha(dataset, number):
            return int(number)
    return None


def nodata_marker(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """Return nodata in the raster's type, None when no pixel can hold it; NaN is found by being not finite."""
    if nodata is None or np.isnan(nodata):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    return dtype.type(int(nodata)) if nodata == int(nodata) and limits.min <= nodata <= limits.max else None


def masked_bands(dataset: Any, numbers: list[int]) -> list[int]:
    """Return the bands whose mask must be read from the file, because it is neither nodata nor alpha."""
    masked: list[int] = []
    for number in numbers:
        flags = set(dataset.mask_flag_enums[number - 1])
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            return [number]
        if not flags & {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}:
            masked.append(number)
    return masked


def probes(window: Window, side: int = 64, count: int = 5) -> list[Window]:
    """Return at most count x count small windows, spread evenly over a window."""
    rows = sorted({int(row) for row in np.linspace(0, max(window.height - side, 0), count)})
    columns = sorted({int(column) for column in np.linspace(0, max(window.width - side, 0), count)})
    corners = [(window.row + row, window.column + column) for row in rows for column in columns]
    return [Window(row, column, side, side).intersection(window) for row, column in corners]


def _looks_like_alpha(dataset: Any, number: int) -> bool:
    opaque = np.iinfo(dataset.dtypes[number - 1]).max if dataset.dtypes[number - 1].startswith(("u", "i")) else 1
    seen = extreme = 0
    for row, column, height, width in probes(Window(0, 0, dataset.height, dataset.width)):
        with contextlib.suppress(RasterioError):  # a damaged file is reported by the first real reading
            part = FileWindow(column, row, width, height)
            band_HW = dataset.read(number, window=part)
            seen += band_HW.size
            extreme += int(((band_HW == 0) | (band_HW == opaque)).sum())
    return extreme >= 0.9 * seen
