"""Pixels of both dates that stand for the whole overlap: all of them, or every n-th row and column of a large one.

One pass through the files; everything that is global (means, medians, projections, thresholds) is then computed from
arrays that fit in memory, and does not depend on the area asked for, nor on how the files are read.

Shape letters: C bands, N pixels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.difference import SHIFT_COLUMN, SHIFT_ROW
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair, clear
from rsfm.raster.smoothing import MARGIN, move, smooth_and_beside

SAMPLE_BYTES = 512 * 2**20
KINDS = 8
FEWEST = 20
"""Pixels for each band of both dates, below which no statistics can be had."""


class TooFewPixels(UserError):
    """Two dates have too few pixels in common to be compared."""


class Counts(NamedTuple):
    """Pixels of the overlap.

    Attributes:
        valid: on both dates.
        before, after: on one date, whatever the other one is.
        fill_before, fill_after: valid on both, but 0 in all bands of a date: nodata that the file does not call so?
    """

    valid: int = 0
    before: int = 0
    after: int = 0
    fill_before: int = 0
    fill_after: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(one + two for one, two in zip(self, other, strict=True)))


class PairSample(NamedTuple):
    """Pixels valid on both dates, from top to bottom, float32.

    Attributes:
        before_CN, after_CN: as in the files.
        smooth_before_CN, smooth_after_CN: smoothed.
        moved_before_CN, moved_after_CN: what lies one pixel beside; NaN beside an invalid pixel.
        smooth_moved_before_CN, smooth_moved_after_CN: what lies one pixel beside, smoothed.
        step: rows and columns from one pixel of the sample to the next.
        counts: of all pixels of the overlap.
    """

    before_CN: np.ndarray
    after_CN: np.ndarray
    smooth_before_CN: np.ndarray
    smooth_after_CN: np.ndarray
    moved_before_CN: np.ndarray
    moved_after_CN: np.ndarray
    smooth_moved_before_CN: np.ndarray
    smooth_moved_after_CN: np.ndarray
    step: int
    counts: Counts

    @property
    def valid(self) -> int:
        """Pixels of the overlap that are valid on both dates."""
        return self.counts.valid


def take_sample(pair: Pair, done: Callable[[float], None] = lambda part: None) -> PairSample:
    """Read the overlap once and keep a sample.

    Args:
        done: told after every strip which part of the overlap is read.

    Raises:
        TooFewPixels: are valid on both dates.
    """
    window, bands = pair.window, pair.before.bands
    step = math.ceil(math.sqrt(window.height * window.width * KINDS * bands * 4 / SAMPLE_BYTES))
    most = -(-window.height // step) * -(-window.width // step)
    sample_KCN = np.empty((KINDS, bands, most), np.float32)  # what is never filled takes no memory
    count, counts = 0, Counts()
    for strip in pair.strips(window):
        found, here = _sample_strip(pair, strip, step, sample_KCN[:, :, count:])
        count, counts = count + found, counts.plus(here)
        done((strip.row + strip.height - window.row) / window.height)
    if count < FEWEST * 2 * bands:
        raise TooFewPixels(_too_few(pair, counts.valid), "after")
    kinds = dict(zip(PairSample._fields, sample_KCN[:, :, :count], strict=False))
    return PairSample(**kinds, step=step, counts=counts)


def with_margin(window: Window) -> Window:
    """Widen a window by what smoothing and moving depend on."""
    row, column, height, width = window
    return Window(row - MARGIN, column - MARGIN, height + 2 * MARGIN, width + 2 * MARGIN)


def _sample_strip(pair: Pair, strip: Window, step: int, into_KCN: np.ndarray) -> tuple[int, Counts]:
    """Put the sample of a strip into an array; return its number of pixels, and what the strip holds."""
    before_CHW, after_CHW, *valid_2HW = pair.read_dates(with_margin(strip))
    valid_HW = valid_2HW[0] & valid_2HW[1]
    clear(before_CHW, valid_2HW[0], valid_HW)
    clear(after_CHW, valid_2HW[1], valid_HW)
    first = -(strip.row - pair.window.row) % step
    rows = slice(MARGIN + first, max(MARGIN + strip.height, MARGIN + first), step)
    columns = slice(MARGIN, MARGIN + strip.width, step)
    kept = np.flatnonzero(valid_HW[rows, columns])
    for number, pixels_CHW in enumerate((before_CHW, after_CHW)):
        how = pixels_CHW, valid_HW, SHIFT_ROW, SHIFT_COLUMN, rows, columns
        smooth_CRS, moved_CRS = smooth_and_beside(*how)
        kinds = pixels_CHW[:, rows, columns], smooth_CRS, move(*how), moved_CRS
        for place, kind_CRS in enumerate(kinds):
            for band_RS, into_N in zip(kind_CRS, into_KCN[2 * place + number], strict=True):
                into_N[: len(kept)] = band_RS.ravel()[kept]
    inside = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    fill = [valid_HW[inside] & ~pixels_CHW[(slice(None), *inside)].any(0) for pixels_CHW in (before_CHW, after_CHW)]
    return len(kept), Counts(
        *(int(each_HW.sum()) for each_HW in (valid_HW[inside], valid_2HW[0][inside], valid_2HW[1][inside], *fill))
    )


def _too_few(pair: Pair, valid: int) -> str:
    found = f"only {valid} pixels" if valid else "no pixel"
    return (
        f"'{pair.before.name}' and '{pair.after.name}' have {found} that {'are' if valid else 'is'} valid on both "
        "dates where they overlap. Choose rasters whose imagery, not only whose outlines, covers the same place, or "
        "correct their nodata value in QGIS with 'Translate (convert format)'."
    )
