"""Gaussian smoothing that ignores invalid pixels, and moving by a part of a pixel, of strips of a raster.

Both can be computed at every n-th row and column only. A value does not depend on the strip it is computed in.

Shape letters: C bands, H rows, W columns with a margin on every side, R rows and S columns of the result.
"""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter

import numpy as np

SIGMA = 1.0
RADIUS = 4
MARGIN = RADIUS + 1
"""Pixels on every side that the results depend on."""
LITTLE = np.float32(1e-20)
"""Less than the weight of any pixel."""
BLOCK_VALUES = 1 << 16
"""Values of a band that are smoothed at once: few enough to stay in the processor's cache from one step to the next."""


def _kernel() -> np.ndarray:
    """Return the weights from the middle outwards."""
    kernel = np.exp(-0.5 * (np.arange(RADIUS + 1) / SIGMA) ** 2)
    return np.asarray((kernel / (kernel[0] + 2 * kernel[1:].sum())).astype(np.float32))


KERNEL = _kernel()


def smooth(pixels_CHW: np.ndarray, valid_HW: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Average valid pixels around the pixels of `rows` and `columns` with Gaussian weights, smooth_CRS.

    Args:
        pixels_CHW: float32, 0 where invalid, with MARGIN pixels more on every side than the slices need.
        rows, columns: from the first pixel to the last, in steps.
    """
    smooth_CRS = np.zeros((len(pixels_CHW), *valid_HW[rows, columns].shape), np.float32)
    for band, part, _, found_RS in _smoothed(pixels_CHW, valid_HW, [(0, 0)], rows, columns):
        smooth_CRS[band, part] = found_RS
    return smooth_CRS


def smooth_each(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> Iterator[np.ndarray]:
    """Do as `smooth` for every pixel with RADIUS others on all sides, to the last bit, several times faster.

    Args:
        pixels_CHW: float32, 0 where invalid; few enough to stay in the processor's cache.

    Yields:
        Each band's smooth_RS, which holds until the next one.
    """
    height, width = valid_HW.shape
    by_row_N, spare_N, found_N = np.empty((3, (height - 2 * RADIUS) * width), np.float32)
    share = _full_share() if valid_HW.all() else _share_of_tile(valid_HW)
    for band_HW in pixels_CHW:
        _sum_pairs(band_HW.ravel(), width, by_row_N, spare_N)
        _sum_pairs(by_row_N, 1, found_N[: -2 * RADIUS], spare_N)
        smooth_RS = found_N.reshape(-1, width)[:, : -2 * RADIUS]
        smooth_RS *= share
        yield smooth_RS


def move(
    pixels_CHW: np.ndarray, valid_HW: np.ndarray, down: float, right: float, rows: slice, columns: slice
) -> np.ndarray:
    """Interpolate bilinearly what lies less than a pixel down and right of the pixels; NaN beside an invalid pixel."""
    moved_CRS = np.zeros_like(pixels_CHW[:, rows, columns])
    valid_RS = np.ones_like(valid_HW[rows, columns])
    for step_down, weight_down in _taps(down):
        for step_right, weight_right in _taps(right):
            at = _shifted(rows, step_down), _shifted(columns, step_right)
            moved_CRS += np.float32(weight_down * weight_right) * pixels_CHW[:, *at]
            valid_RS &= valid_HW[at]
    return np.where(valid_RS, moved_CRS, np.float32(np.nan))


def smooth_and_beside(
    pixels_CHW: np.ndarray, valid_HW: np.ndarray, down: float, right: float, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth_CRS as `smooth` does, and what the smoothed pixels are less than a pixel down and right of it.

    The latter, moved_CRS, is interpolated bilinearly. What both need is computed once.
    """
    shape = (len(pixels_CHW), *valid_HW[rows, columns].shape)
    smooth_CRS, moved_CRS = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    weights = {(one, two): np.float32(share * of) for one, share in _taps(down) for two, of in _taps(right)}
    for band, part, place, found_RS in _smoothed(pixels_CHW, valid_HW, sorted({(0, 0), *weights}), rows, columns):
        if place == (0, 0):
            smooth_CRS[band, part] = found_RS
        if place in weights:
            moved_CRS[band, part] += weights[place] * found_RS
    return smooth_CRS, moved_CRS


def _smoothed(
    pixels_CHW: np.ndarray, valid_HW: np.ndarray, places: list[tuple[int, int]], rows: slice, columns: slice
) -> Iterator[tuple[int, slice, tuple[int, int], np.ndarray]]:
    """Smooth what lies some rows and columns beside the pixels, block by block, where anything around is valid.

    Yields:
        The band, the rows of the result, the place beside them, and what is there.
    """
    for part, at in _blocks(rows, valid_HW.shape[1]):
        for down, group in groupby(places, itemgetter(0)):
            near, rights = _shifted(at, down), [right for _, right in group]
            if not valid_HW[_around(near)].any():
                continue
            shares = [_share(valid_HW, near, _shifted(columns, right)) for right in rights]
            for band, band_HW in enumerate(pixels_CHW):
                by_row_RW = _weighted(band_HW, near, 0)
                for right, share_RS in zip(rights, shares, strict=True):
                    found_RS = _weighted(by_row_RW, _shifted(columns, right), 1)
                    found_RS *= share_RS
                    yield band, part, (down, right), found_RS


def _taps(shift: float) -> list[tuple[int, float]]:
    first = int(np.floor(shift))
    return [(first, 1 - (shift - first)), (first + 1, shift - first)]


def _blocks(rows: slice, width: int) -> Iterator[tuple[slice, slice]]:
    """Cut rows into parts of the result, each with the rows that it is computed at."""
    taken, height = range(rows.start, rows.stop, rows.step), max(1, BLOCK_VALUES // width)
    for first in range(0, len(taken), height):
        some = taken[first : first + height]
        yield slice(first, first + len(some)), slice(some[0], some[-1] + 1, rows.step)


def _around(rows: slice) -> slice:
    return slice(rows.start - RADIUS, rows.stop + RADIUS)


def _share(valid_HW: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return what a sum over valid pixels is multiplied by to give their mean, 0 where there is none.

    One row stands for all where all are alike.
    """
    near_HW = valid_HW[_around(rows)]
    if (near_HW == near_HW[0]).all():
        near_HW = near_HW[: 2 * RADIUS + 1]
    inside = slice(RADIUS, len(near_HW) - RADIUS, rows.step)
    weight_RS = _weighted(_weighted(near_HW.astype(np.float32), inside, 0), columns, 1)
    return np.asarray(np.divide(1, weight_RS, out=np.zeros_like(weight_RS), where=weight_RS > 0))


def _weighted(band: np.ndarray, at: slice, axis: int) -> np.ndarray:
    """Sum what lies around, pair by pair, so that the order of additions is the same everywhere."""
    total = KERNEL[0] * _take(band, at, axis)
    for distance in range(1, RADIUS + 1):
        both = _take(band, _shifted(at, -distance), axis) + _take(band, _shifted(at, distance), axis)
        both *= KERNEL[distance]
        total += both
    return np.asarray(total)


def _sum_pairs(values_N: np.ndarray, step: int, total_M: np.ndarray, spare_M: np.ndarray) -> None:
    """Sum as `_weighted` does what lies `step` values apart: total_M[0] is the sum around values_N[RADIUS * step].

    All is one row of memory, which is faster than rows; sums across the end of a row mean nothing.
    """
    spare_M = spare_M[: len(total_M)]

    def place(number: int) -> np.ndarray:
        return values_N[number * step : number * step + len(total_M)]

    np.multiply(KERNEL[0], place(RADIUS), out=total_M)
    for distance in range(1, RADIUS + 1):
        np.add(place(RADIUS - distance), place(RADIUS + distance), out=spare_M)
        np.multiply(spare_M, KERNEL[distance], out=spare_M)
        np.add(total_M, spare_M, out=total_M)


def _share_of_tile(valid_HW: np.ndarray) -> np.ndarray:
    """Return what `_share` does for every pixel with RADIUS others on all sides; anything where a sum is 0."""
    if (valid_HW == valid_HW[0]).all():
        valid_HW = valid_HW[: 2 * RADIUS + 1]
    height, width = valid_HW.shape
    by_row_N, spare_N, weight_N = np.empty((3, (height - 2 * RADIUS) * width), np.float32)
    _sum_pairs(valid_HW.astype(np.float32).ravel(), width, by_row_N, spare_N)
    _sum_pairs(by_row_N, 1, weight_N[: -2 * RADIUS], spare_N)
    weight_RS = weight_N.reshape(-1, width)[:, : -2 * RADIUS]
    return np.asarray(1 / np.maximum(weight_RS, LITTLE))


@cache
def _full_share() -> np.float32:
    """Return the share where all around is valid."""
    return np.float32(_share_of_tile(np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), bool))[0, 0])


def _shifted(at: slice, step: int) -> slice:
    return slice(at.start + step, at.stop + step, at.step)


def _take(band: np.ndarray, at: slice, axis: int) -> np.ndarray:
    return band[at] if axis == 0 else band[:, at]
