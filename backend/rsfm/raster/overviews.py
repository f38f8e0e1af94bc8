"""Halves rasters for their pyramids: the most frequent class of four pixels, or the mean of those that are valid."""

from itertools import combinations
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
    four = [np.ascontiguousarray(rows_CHW[:, row::2, column::2]) for row in (0, 1) for column in (0, 1)]
    if kind.overviews == "nearest":
        return four[0]
    halved_CHW = _mode(four, kind.nodata) if kind.overviews == "mode" else _mean(four, kind.nodata)
    if np.dtype(kind.dtype).kind in "iu" and halved_CHW.dtype.kind == "f":
        halved_CHW = np.rint(halved_CHW)
    return halved_CHW.astype(kind.dtype, copy=False)


def _mode(four: list[NDArray[Any]], nodata: float) -> NDArray[Any]:
    """Return the most frequent value, the first of equals."""
    a, b, c, d = four
    equal = {pair: (four[pair[0]] == four[pair[1]]).view(np.uint8) for pair in combinations(range(4), 2)}
    best = a.copy()
    most = (equal[0, 1] + equal[0, 2] + equal[0, 3] + 1) * (a != nodata)
    for values, votes in (
        (b, (equal[1, 2] + equal[1, 3] + 1) * (b != nodata)),  # one that equals an earlier one cannot win over it
        (c, (equal[2, 3] + 1) * (c != nodata)),
        (d, (d != nodata).view(np.uint8)),
    ):
        np.copyto(best, values, where=votes > most)
        np.maximum(most, votes, out=most)
    return best


def _mean(four: list[NDArray[Any]], nodata: float) -> NDArray[Any]:
    total, count = np.zeros(four[0].shape, np.float32), np.zeros(four[0].shape, np.float32)
    for values in four:
        valid = ~np.isnan(values) if np.isnan(nodata) else values != nodata
        np.add(total, values, out=total, where=valid)
        count += valid
    mean = np.full(four[0].shape, nodata, np.float32)
    return np.divide(total, count, out=mean, where=count > 0)
