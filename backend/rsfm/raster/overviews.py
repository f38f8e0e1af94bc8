"""Halves rasters for their pyramids: the most frequent class of four pixels, or the mean of those that are valid."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.output import RasterKind


def halve(rows_CHW: NDArray[Any], kind: type[RasterKind]) -> NDArray[Any]:
    """Return rows of half the height and width, rounded up; nodata only where all four pixels are."""
    height, width = rows_CHW.shape[1:]
    if height % 2 or width % 2:
        pad = ((0, 0), (0, height % 2), (0, width % 2))
        rows_CHW = np.pad(rows_CHW, pad, constant_values=kind.nodata)
    four = [rows_CHW[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    if kind.overviews == "nearest":
        return np.ascontiguousarray(four[0])
    halved_CHW = _mode(four, kind.nodata) if kind.overviews == "mode" else _mean(four, kind.nodata)
    if np.dtype(kind.dtype).kind in "iu" and halved_CHW.dtype.kind == "f":
        halved_CHW = np.rint(halved_CHW)
    return halved_CHW.astype(kind.dtype, copy=False)


def _mode(four: list[NDArray[Any]], nodata: float) -> NDArray[Any]:
    """Return the most frequent value, the first of equals."""
    best, most = four[0].copy(), _votes(four, 0, nodata)
    for index in (1, 2, 3):
        votes = _votes(four, index, nodata)
        better = votes > most
        np.copyto(best, four[index], where=better)
        np.maximum(most, votes, out=most)
    return best


def _votes(four: list[NDArray[Any]], index: int, nodata: float) -> NDArray[np.uint8]:
    """Count how many of the four hold the value of one; nodata has none."""
    votes = np.zeros(four[0].shape, np.uint8)
    for other in four:
        votes += other == four[index]
    votes[four[index] == nodata] = 0
    return votes


def _mean(four: list[NDArray[Any]], nodata: float) -> NDArray[Any]:
    total, count = np.zeros(four[0].shape, np.float32), np.zeros(four[0].shape, np.float32)
    for values in four:
        valid = ~np.isnan(values) if np.isnan(nodata) else values != nodata
        np.add(total, values, out=total, where=valid)
        count += valid
    mean = np.full(four[0].shape, nodata, np.float32)
    return np.divide(total, count, out=mean, where=count > 0)
