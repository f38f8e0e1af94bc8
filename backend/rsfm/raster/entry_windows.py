"""Reads windows of many rasters of collections together, in units, with what is valid and what is cloudy.

Windows of one file are read with each other, so that a block is decoded once for all that show it.
Shape letters: N windows, C bands, H rows, W columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.grid import Grid, Window
from rsfm.raster.resampled import Resampled, whole_shift
from rsfm.raster.window_reader import Patch, Request, WindowReader

MOST_TOGETHER = 32
"""Rasters whose files are lent at once."""
AT_ONCE = 32
"""Windows that are brought to units at once."""


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
    """Read windows of one size; yields their numbers, and None where more than a share of one is cloudy.

    Raises:
        UserError: a raster or its mask is absent or damaged.
    """
    cloudy = {n: each.raster.cloudy(each.grid, each.window) for n, each in enumerate(wanted) if each.raster.masked}
    hidden = [
        number for number, cloudy_HW in cloudy.items() if np.count_nonzero(cloudy_HW) > max_cloud * cloudy_HW.size
    ]
    yield from ((number, None) for number in hidden)
    parts = _by_file(wanted, set(range(len(wanted))) - set(hidden))
    for first in range(0, len(parts), MOST_TOGETHER):
        yield from _read(reader, wanted, parts[first : first + MOST_TOGETHER], cloudy)


class _Part(NamedTuple):
    """Windows of a raster by their numbers, and how many pixels its own grid is shifted by; None if they are warped."""

    raster: EntryRaster
    shift: tuple[int, int] | None
    numbers: list[int]


def _by_file(wanted: Sequence[Wanted], numbers: Iterable[int]) -> list[_Part]:
    found: dict[tuple[EntryRaster, tuple[int, int] | None], list[int]] = {}
    for number in sorted(numbers):
        raster, grid, _ = wanted[number]
        shift = (0, 0) if grid is raster.grid else whole_shift(raster.grid, grid)
        found.setdefault((raster, shift), []).append(number)
    return [_Part(raster, shift, numbers) for (raster, shift), numbers in found.items()]


def _read(
    reader: WindowReader, wanted: Sequence[Wanted], parts: Sequence[_Part], cloudy: dict[int, np.ndarray]
) -> Iterator[tuple[int, Seen]]:
    """Read windows of rasters that are lent meanwhile, and scale those of a raster some at a time."""
    requests, out, stored = [], [], []
    with ExitStack() as stack:
        for raster, shift, numbers in parts:
            windows = [wanted[number].window for number in numbers]
            if shift is None:
                asked = [Request(Resampled(raster, wanted[number].grid), wanted[number].window) for number in numbers]
            else:
                file = stack.enter_context(raster.lend())
                asked = [Request(file, Window(w.row + shift[0], w.column + shift[1], *w[2:])) for w in windows]
            pixels_NCHW = np.empty((len(numbers), *asked[0].shape), asked[0].raster.dtype)
            valid_NHW = np.empty((len(numbers), *asked[0].shape[1:]), bool)
            requests += asked
            out += [Patch(*both) for both in zip(pixels_NCHW, valid_NHW, strict=True)]
            stored.append((pixels_NCHW, valid_NHW))
        reader.read(requests, out)
    for part, (pixels_NCHW, valid_NHW) in zip(parts, stored, strict=True):
        for first in range(0, len(part.numbers), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            yield from _finish(part, part.numbers[some], pixels_NCHW[some], valid_NHW[some], cloudy)


def _finish(
    part: _Part, numbers: list[int], pixels_NCHW: np.ndarray, valid_NHW: np.ndarray, cloudy: dict[int, np.ndarray]
) -> Iterator[tuple[int, Seen]]:
    """Bring windows to units, if they are as stored, without what is cloudy."""
    if part.raster.masked:
        cloudy_NHW = np.stack([cloudy[number] for number in numbers])
    else:
        cloudy_NHW = np.broadcast_to(False, valid_NHW.shape)
    if part.shift is not None:
        valid_NHW = valid_NHW & ~cloudy_NHW if part.raster.masked else valid_NHW
        pixels_NCHW, valid_NHW = part.raster.in_units(pixels_NCHW, valid_NHW)
    yield from zip(numbers, map(Seen, pixels_NCHW, valid_NHW, cloudy_NHW), strict=True)
