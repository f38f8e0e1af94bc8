"""Reads many windows of many rasters at once, decoding every block of a file once.

Windows drawn at random share blocks: read one by one, a block is decoded again for each. Here the windows of some
batches ahead are sorted by the cells they touch (blocks, see `cells`); each cell is decoded by one of several threads
and copied into all windows that show it. Cells that come again are kept, up to a limit.

Shape letters: C bands, H rows, W columns.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import psutil

from rsfm.errors import UserError
from rsfm.raster.cell_cache import Cell, CellCache
from rsfm.raster.decoded_cache import DecodedCache
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster

MEMORY = 512 * 2**20
"""Bytes of decoded cells that are kept, where not all can be."""
FREE_SHARE = 0.25
"""Of the free memory that may be used to keep all cells."""
SPARE = 1.15
"""Of what is needed for all cells, for those at edges and for validity."""
THREADS = 2
FEW_PIECES = 128
"""Of windows, that are copied in one thread: less work than to wake another."""
OPEN_FILES = 64
"""Rasters whose handles are kept open; beyond them, those of the one used longest ago are closed."""
ENOUGH = 0.5
"""Share of the pixels of a shrunk one that must be valid to make a valid one."""


class Request(NamedTuple):
    """A window of a raster, in its pixels, which may pass its edge.

    With `shrink`, it is read from the file's overviews where they serve: each pixel is the mean of the valid ones of
    shrink x shrink, counted from the raster's pixel (0, 0), and the window is enlarged to whole ones.
    """

    raster: Raster
    window: Window
    shrink: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width of what is read."""
        _, _, height, width = self.window.cells(self.shrink)
        return self.raster.bands, height, width


class Patch(NamedTuple):
    """What was read: pixels_CHW in the raster's own type, 0 where invalid, and valid_HW."""

    pixels_CHW: np.ndarray
    valid_HW: np.ndarray


class WindowReader:
    """Reads windows with threads of its own. Several threads may call it; the rasters stay the caller's.

    What is read is the same as by `Raster.read_native`, whatever the threads, the memory and the other windows.

    Attributes:
        memory_bytes: of decoded cells that are kept.
        disk: rasters that were added to it are taken from there.
        decoded_seconds, decoded_bytes: processor's time spent on decoding so far, and what it gave.
    """

    def __init__(
        self,
        memory_bytes: int = MEMORY,
        threads: int = THREADS,
        disk: DecodedCache | None = None,
        keep_all: bool = False,
    ) -> None:
        """Start with nothing kept.

        Args:
            memory_bytes: of decoded cells to keep; besides them, each thread holds one.
            disk: rasters that were added to it are taken from there.
            keep_all: the memory holds all cells, so that each is kept at once.
        """
        self.disk, self.memory_bytes = disk, memory_bytes
        self.decoded_seconds, self.decoded_bytes = 0.0, 0
        self._cache = CellCache(memory_bytes, keep_all)
        self._threads, self._pool = threads, ThreadPoolExecutor(threads, "window-reader")
        self._local = threading.local()
        self._used: OrderedDict[Raster, None] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> "WindowReader":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @classmethod
    def of(cls, decoded_bytes: int) -> "WindowReader":
        """Return one that keeps all of some rasters, if memory is plenty for that, or as much as usual.

        Args:
            decoded_bytes: of all the rasters.
        """
        needed = math.ceil(SPARE * decoded_bytes)
        fits = needed <= max(MEMORY, FREE_SHARE * psutil.virtual_memory().available)
        return cls(max(needed, MEMORY) if fits else MEMORY, keep_all=fits)

    @property
    def kept_bytes(self) -> int:
        """Decoded bytes that are kept now."""
        return self._cache.nbytes

    def close(self) -> None:
        """End the threads; close the rasters after this."""
        self._pool.shutdown()

    def read(self, requests: Sequence[Request], out: Sequence[Patch] | None = None) -> list[Patch]:
        """Read windows; the more of them at once, the fewer blocks are decoded twice.

        Args:
            out: arrays to fill, such as the rows of a pinned batch; None makes them.

        Returns:
            One for each request, in their order.

        Raises:
            UserError: a file is damaged where a window lies.
        """
        patches = list(out) if out is not None else [_allocate(request) for request in requests]
        plain, averages = [], []
        for request, patch in zip(requests, patches, strict=True):
            if request.shrink == 1:
                plain.append((request.raster, request.window, patch))
                continue
            raster, rest = request.raster.overview(request.shrink)
            window = Window(*(rest * value for value in request.window.cells(request.shrink)))
            whole = patch if rest == 1 else _allocate(Request(raster, window))
            plain.append((raster, window, whole))
            if rest > 1:
                averages.append((whole, rest, patch))
        for raster, window, patch in plain:
            inside = window.intersection(raster.grid.window)
            patch.valid_HW[:] = inside == window
            if inside != window:
                patch.pixels_CHW[:] = 0
                patch.valid_HW[_slices(inside, window)] = True
        self._fill_all(_plan(plain))
        self._wait([self._pool.submit(_average, *task) for task in averages])
        return patches

    def _fill_all(self, tasks: "Sequence[_Task]") -> None:
        """Decode cells in the threads, and copy those that are kept here and in threads that have nothing to decode."""
        found = [(self._cache.get((task.raster.key, task.cell)) if task.cached else None, task) for task in tasks]
        rest = [task for cell, task in found if cell is None]
        kept = deque((cell, task) for cell, task in found if cell is not None)
        coming = [self._pool.submit(self._fill, task) for task in rest] if len(rest) > 1 else []
        if sum(len(task.pieces) for _, task in kept) > FEW_PIECES:
            coming += [self._pool.submit(_copy_waiting, kept) for _ in range(self._threads - 1)]
        _copy_waiting(kept)
        if len(rest) == 1:  # not worth waking a thread
            self._fill(rest[0])
        self._wait(coming)

    @staticmethod
    def _wait(coming: "Sequence[Future[None]]") -> None:
        """Wait for all even when one fails: they write into the caller's arrays."""
        wait(coming)
        for each in coming:
            each.result()

    def _fill(self, task: "_Task") -> None:
        """Decode a cell and copy it into the windows that show it."""
        try:
            found = self._decode(task.raster, task.cell, task.cached)
        except UserError:  # only windows that show the damaged part of the cell are refused
            for piece in task.pieces:
                rows, columns = piece.there
                part = Window(task.cell.row + rows.start, task.cell.column + columns.start, *_lengths(piece.there))
                _copy(Cell(*task.raster.read_native(part)), piece._replace(there=(slice(None), slice(None))))
            return
        _copy_all(found, task)

    def _decode(self, raster: Raster, cell: Window, cached: bool) -> Cell:
        """Return a cell; one that is not kept is overwritten by the next that this thread decodes."""
        key = (raster.key, cell) if cached else None
        found = self._cache.get(key) if cached else None
        if found is None and cached and self.disk is not None:
            found = self.disk.cell(raster, cell)
        if found is not None:
            return found
        self._use(raster)
        shape = raster.bands, cell.height, cell.width
        room = self._cache.room(key, shape, raster.dtype) if cached else None
        pixels_CHW = room.pixels_CHW if room else self._scratch("pixels", shape, raster.dtype)
        valid_HW = self._scratch("valid", shape[1:], np.dtype(bool))
        started = time.thread_time()
        raster.read_into(cell, pixels_CHW, valid_HW)
        with self._lock:
            self.decoded_seconds += time.thread_time() - started
            self.decoded_bytes += pixels_CHW.nbytes
        if room:
            return self._cache.put(key, room, None if valid_HW.all() else valid_HW.copy())
        return Cell(pixels_CHW, valid_HW)

    def _scratch(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Return an array in memory that this thread uses again and again."""
        size = math.prod(shape) * dtype.itemsize
        memory: np.ndarray | None = self._local.__dict__.get(name)
        if memory is None or len(memory) < size:
            memory = self._local.__dict__[name] = np.empty(size, np.uint8)
        return memory[:size].view(dtype).reshape(shape)

    def _use(self, raster: Raster) -> None:
        """Remember that a raster has handles, and close those of the one used longest ago when there are too many."""
        with self._lock:
            self._used[raster] = None
            self._used.move_to_end(raster)
            oldest = self._used.popitem(last=False)[0] if len(self._used) > OPEN_FILES else None
        if oldest is not None:
            oldest.release()


Part = tuple[slice, slice]
"""Rows and columns of an array."""


class _Piece(NamedTuple):
    """The arrays of a window, which part of them a cell shows, and which part of the cell that is."""

    patch: Patch
    here: Part
    there: Part


class _Task(NamedTuple):
    """A cell, the pieces of windows that it shows, and whether it may be kept."""

    raster: Raster
    cell: Window
    pieces: list[_Piece]
    cached: bool


def _plan(wanted: Sequence[tuple[Raster, Window, Patch]]) -> list[_Task]:
    """Return the cells to decode, raster by raster and row by row, each with the windows that show it."""
    by_raster: dict[Raster, list[tuple[Window, Patch]]] = {}
    for raster, window, patch in wanted:
        by_raster.setdefault(raster, []).append((window, patch))
    tasks = []
    for raster, windows in by_raster.items():
        cells = raster.cells()
        if cells is None:
            for window, patch in windows:
                part = window.intersection(raster.grid.window)
                if part.height and part.width:
                    piece = _Piece(patch, _slices(part, window), _slices(part, part))
                    tasks.append(_Task(raster, part, [piece], False))
            continue
        shown: dict[tuple[int, int], list[_Piece]] = {}
        for window, patch in windows:
            across = cells.across(window)
            for row, high_here, high_there in cells.down(window):
                for column, wide_here, wide_there in across:
                    piece = _Piece(patch, (high_here, wide_here), (high_there, wide_there))
                    shown.setdefault((row, column), []).append(piece)
        tasks += [_Task(raster, cells.window(*place), shown[place], True) for place in sorted(shown)]
    return tasks


def _allocate(request: Request) -> Patch:
    return Patch(np.empty(request.shape, request.raster.dtype), np.empty(request.shape[1:], bool))


def _copy_waiting(kept: "deque[tuple[Cell, _Task]]") -> None:
    """Copy cells until none waits; several threads may do so."""
    while kept:
        try:
            cell, task = kept.popleft()
        except IndexError:  # another thread was faster
            return
        _copy_all(cell, task)


def _copy_all(cell: Cell, task: _Task) -> None:
    for piece in task.pieces:
        _copy(cell, piece)


def _copy(cell: Cell, piece: _Piece) -> None:
    """Copy what a cell and a window share."""
    patch, here, there = piece
    patch.pixels_CHW[:, *here] = cell.pixels_CHW[:, *there]
    if cell.valid_HW is not None:
        patch.valid_HW[here] = cell.valid_HW[there]


def _lengths(part: Part) -> tuple[int, int]:
    rows, columns = part
    return rows.stop - rows.start, columns.stop - columns.start


def _slices(part: Window, whole: Window) -> Part:
    """Return where a part lies in the arrays of a whole."""
    row, column = part.row - whole.row, part.column - whole.column
    return slice(row, row + part.height), slice(column, column + part.width)


def _average(whole: Patch, factor: int, patch: Patch) -> None:
    """Fill a patch with the means of the valid ones of factor x factor pixels."""
    height, width = patch.valid_HW.shape
    count_HW = whole.valid_HW.reshape(height, factor, width, factor).sum((1, 3))
    for whole_HW, pixels_HW in zip(whole.pixels_CHW, patch.pixels_CHW, strict=True):
        sums_HW = whole_HW.reshape(height, factor, width, factor).sum((1, 3), dtype=np.float64)
        means_HW = sums_HW / np.maximum(count_HW, 1)
        pixels_HW[:] = means_HW if whole_HW.dtype.kind == "f" else np.rint(means_HW)
    patch.valid_HW[:] = count_HW >= ENOUGH * factor**2
    patch.pixels_CHW[:, ~patch.valid_HW] = 0
