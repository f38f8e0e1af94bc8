"""Reads the tiles of a raster, row of tiles after row of tiles; each block of the file is decoded once.

Shape letters: C bands, H rows, W columns, S side of a tile, h and w rows and columns of cells.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.ahead import one_ahead
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster
from rsfm.raster.tiling import Plan, any_in_cells, owned, select_tiles, tile_starts

STRIP_BYTES = 2**27
"""Pixels read at once; a wider band of rows is read in pieces."""
READERS = 2
"""Threads that decode."""

Flags = NDArray[np.bool_]
Inside = Callable[[Window], Flags]
"""Tells which pixels of a window are asked for."""


class Layout(NamedTuple):
    """Which tiles serve a window, and what they give to it."""

    plan: Plan
    grid: Grid
    cells: Window
    row_starts: range
    column_starts: range
    rows: range
    columns: range

    @property
    def pixels(self) -> Window:
        """The pixels of the cells asked for; they may hang over the raster's edge."""
        return Window(*(value * self.plan.stride for value in self.cells))

    def owned_rows(self, row: int) -> tuple[int, int]:
        """First and end of the pixel rows, of the cells asked for, that are final with a row of tiles."""
        first, end = owned(row, self.row_starts, self.grid.height)
        low, high = self.pixels.row, self.pixels.row + self.pixels.height
        return max(first, low), max(min(end, high), low)

    def owned_columns(self, columns: range) -> tuple[int, int]:
        """First and end of the pixel columns, of the cells asked for, that belong to some columns of tiles."""
        first = owned(columns[0], self.column_starts, self.grid.width)[0]
        end = owned(columns[-1], self.column_starts, self.grid.width)[1]
        low, high = self.pixels.column, self.pixels.column + self.pixels.width
        return max(first, low), max(min(end, high), low)


class Strip(NamedTuple):
    """The pixels of some neighbouring tiles of a row, halo included; `row` and `column` may be negative.

    Attributes:
        wanted_HW: which pixels are asked for; None is all.
    """

    row: int
    columns: range
    window: Window
    pixels_CHW: NDArray[np.generic]
    valid_HW: Flags
    wanted_HW: Flags | None

    def cut(self, column: int, layout: Layout) -> tuple[NDArray[np.generic], Flags, bool]:
        """Cut a tile, and tell whether its core holds a valid pixel and, if areas are asked for, one of them."""
        plan = layout.plan
        left = layout.column_starts[column] - plan.halo - self.window.column
        columns = slice(left, left + plan.side)
        core = slice(plan.halo, plan.halo + plan.core), slice(left + plan.halo, left + plan.halo + plan.core)
        needed = bool(self.valid_HW[core].any()) and (self.wanted_HW is None or bool(self.wanted_HW[core].any()))
        return self.pixels_CHW[:, :, columns], self.valid_HW[:, columns], needed

    def owned_cells(self, layout: Layout) -> tuple[int, Flags]:
        """Return the first column of the cells that are final with this strip, and which of them are valid."""
        top, bottom = layout.owned_rows(self.row)
        left, right = layout.owned_columns(self.columns)
        rows = slice(top - self.window.row, bottom - self.window.row)
        columns = slice(left - self.window.column, max(right, left) - self.window.column)
        valid_hw = any_in_cells(self.valid_HW[rows, columns], layout.plan.stride)
        if self.wanted_HW is not None:
            valid_hw = valid_hw & any_in_cells(self.wanted_HW[rows, columns], layout.plan.stride)
        return left // layout.plan.stride - layout.cells.column, valid_hw


def lay_out(grid: Grid, window: Window, plan: Plan) -> Layout:
    """Find the tiles that serve a window."""
    cells, stride = window.cells(plan.stride), plan.stride
    rows, columns = tile_starts(grid.height, plan), tile_starts(grid.width, plan)
    return Layout(
        plan,
        grid,
        cells,
        rows,
        columns,
        select_tiles(rows, plan, cells.row * stride, (cells.row + cells.height) * stride),
        select_tiles(columns, plan, cells.column * stride, (cells.column + cells.width) * stride),
    )


@contextmanager
def strips_ahead(raster: Raster, layout: Layout, inside: Inside | None) -> Iterator[Iterator[Strip]]:
    """Read strips from top to bottom, each while the one before is used."""
    with (
        ThreadPoolExecutor(READERS) as readers,
        closing(one_ahead(_read_strips(raster, layout, inside, readers))) as ahead,
    ):
        yield ahead


def _read_strips(raster: Raster, layout: Layout, inside: Inside | None, readers: Executor) -> Iterator[Strip]:
    plan = layout.plan
    column_bytes = raster.bands * plan.side * raster.dtype.itemsize
    together = max(1, (STRIP_BYTES // column_bytes - plan.side) // plan.step + 1)
    rows = _Rows(raster, readers)
    for row in layout.rows:
        for first in range(layout.columns.start, layout.columns.stop, together):
            columns = range(first, min(first + together, layout.columns.stop))
            left = layout.column_starts[first] - plan.halo
            width = (len(columns) - 1) * plan.step + plan.side
            window = Window(layout.row_starts[row] - plan.halo, left, plan.side, width)
            wanted_HW = None if inside is None else _wanted(inside, window, layout)
            skipped = wanted_HW is not None and not wanted_HW.any()
            goes_on = len(columns) == len(layout.columns)
            pixels_CHW, valid_HW = rows.nothing(window) if skipped else rows.read(window, goes_on)
            yield Strip(row, columns, window, pixels_CHW, valid_HW, wanted_HW)


def _wanted(inside: Inside, window: Window, layout: Layout) -> Flags:
    """Tell which pixels of a window are asked for; none outside the raster and the cells asked for."""
    wanted_HW = np.zeros((window.height, window.width), bool)
    part = window.intersection(layout.pixels).intersection(layout.grid.window)
    if part.height and part.width:
        top, left = part.row - window.row, part.column - window.column
        wanted_HW[top : top + part.height, left : left + part.width] = inside(part)
    return wanted_HW


class _Rows:
    """Rows that were read and may be needed again: those that two rows of tiles share, and the rest of their blocks."""

    def __init__(self, raster: Raster, readers: Executor) -> None:
        self._raster, self._readers = raster, readers
        self._window = Window(0, 0, 0, 0)
        self._pixels_CHW, self._valid_HW = self.nothing(self._window)

    def nothing(self, window: Window) -> tuple[NDArray[np.generic], Flags]:
        """Return a window without valid pixels."""
        shape = (window.height, window.width)
        return np.zeros((self._raster.bands, *shape), self._raster.dtype), np.zeros(shape, bool)

    def read(self, window: Window, goes_on: bool) -> tuple[NDArray[np.generic], Flags]:
        """Read a window that starts no higher than the one before.

        Args:
            goes_on: the next window lies below this one, not beside it.
        """
        kept = self._window
        bottom = self._bottom(window) if goes_on else window.row + window.height
        whole = window._replace(height=bottom - window.row)
        same = (kept.column, kept.width) == (window.column, window.width) and kept.row <= window.row
        shared = max(kept.row + kept.height - window.row, 0) if same else 0
        if shared < window.height or not same:
            below = whole._replace(row=window.row + shared, height=whole.height - shared)
            shape = whole.height, whole.width
            new_CHW, new_HW = np.empty((self._raster.bands, *shape), self._raster.dtype), np.empty(shape, bool)
            self._raster.read_into(below, new_CHW[:, shared:], new_HW[shared:], "reflect", self._readers)
            if shared:
                new_CHW[:, :shared], new_HW[:shared] = self._pixels_CHW[:, -shared:], self._valid_HW[-shared:]
        else:
            top = window.row - kept.row
            whole = whole._replace(height=kept.height - top)
            new_CHW, new_HW = self._pixels_CHW[:, top:], self._valid_HW[top:]
        self._window, self._pixels_CHW, self._valid_HW = whole, new_CHW, new_HW
        return new_CHW[:, : window.height], new_HW[: window.height]

    def _bottom(self, window: Window) -> int:
        """Return where to read to: the end of the blocks, unless they are taller than the window."""
        bottom, block = window.row + window.height, self._raster.block[0]
        aligned = min(-(-bottom // block) * block, self._raster.grid.height)
        return aligned if bottom < aligned <= bottom + window.height else bottom
