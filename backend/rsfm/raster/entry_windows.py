"""Reads windows of many rasters of collections together, in units, with what is valid and what is cloudy.

Windows of one file are read with each other, so that a block is decoded once for all that show it.
Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.grid import Grid, Window
from rsfm.raster.resampled import Resampled, whole_shift
from rsfm.raster.window_reader import Request, WindowReader

MOST_TOGETHER = 32
"""Rasters whose files are lent at once."""


class Wanted(NamedTuple):
    """A window on a grid, which is the raster's own or another one."""

    raster: EntryRaster
    grid: Grid
    window: Window


class Seen(NamedTuple):
    """What a window shows: pixels_CHW in units, 0 where invalid; valid_HW; cloudy_HW, where the mask says so."""

    pixels_CHW: np.ndarray
    valid_HW: np.ndarray
    cloudy_HW: np.ndarray


def read_windows(reader: WindowReader, wanted: Sequence[Wanted], max_cloud: float) -> Iterator[tuple[int, Seen | None]]:
    """Read windows; yields their numbers, and None where more than a share of one is cloudy.

    Raises:
        UserError: a raster or its mask is absent or damaged.
    """
    cloudy = [each.raster.cloudy(each.grid, each.window) for each in wanted]
    cloudy_share = [np.count_nonzero(cloudy_HW) / cloudy_HW.size for cloudy_HW in cloudy]
    yield from ((number, None) for number, share in enumerate(cloudy_share) if share > max_cloud)
    clear = [number for number, share in enumerate(cloudy_share) if share <= max_cloud]
    for numbers in _by_file(wanted, clear):
        shifts = [_shift(wanted[number]) for number in numbers]
        with ExitStack() as stack:
            patches = reader.read([_request(wanted[n], shift, stack) for n, shift in zip(numbers, shifts, strict=True)])
        for number, shift, (pixels_CHW, valid_HW) in zip(numbers, shifts, patches, strict=True):
            if shift is not None:
                raster = wanted[number].raster
                pixels_CHW, valid_HW = raster.in_units(pixels_CHW, valid_HW, cloudy[number])
            yield number, Seen(pixels_CHW, valid_HW, cloudy[number])


def _by_file(wanted: Sequence[Wanted], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Put windows together whose rasters are lent at once."""
    groups: dict[EntryRaster, list[int]] = {}
    for number in numbers:
        groups.setdefault(wanted[number].raster, []).append(number)
    each = list(groups.values())
    for first in range(0, len(each), MOST_TOGETHER):
        yield [number for group in each[first : first + MOST_TOGETHER] for number in group]


def _request(wanted: Wanted, shift: tuple[int, int] | None, stack: ExitStack) -> Request:
    """Ask for pixels as the file stores them, or for those of another grid, which are in units already."""
    if shift is None:
        return Request(Resampled(wanted.raster, wanted.grid), wanted.window)
    row, column, height, width = wanted.window
    return Request(stack.enter_context(wanted.raster.lend()), Window(row + shift[0], column + shift[1], height, width))


def _shift(wanted: Wanted) -> tuple[int, int] | None:
    """Return by how many pixels the raster's own grid is shifted; None when its pixels lie elsewhere."""
    return (0, 0) if wanted.grid is wanted.raster.grid else whole_shift(wanted.raster.grid, wanted.grid)
