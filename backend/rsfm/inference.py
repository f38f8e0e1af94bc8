"""Runs a network over a raster of any size, in tiles, with memory that does not grow with its height.

Rows of tiles go from top to bottom. Each band of rows is read once, by a thread that is one step ahead; tiles are cut
from it, run in batches of a fixed shape, and added to a canvas of one tile's height; finished rows are handed over.

Shape letters: B batch, C bands, H rows, W columns, K outputs, S side of a tile, N cells of a tile's core, h and w rows
and columns of cells.
"""

import contextlib
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rsfm.errors import UserError
from rsfm.inference_config import TilingConfig
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster
from rsfm.raster.tiling import Plan, any_in_cells, axis_weights, owned, plan_tiles, select_tiles, tile_starts

STRIP_BYTES = 2**28
"""Pixels read at once; a wider band of rows is read in pieces."""
CANVAS_BYTES = 2**30
"""A larger canvas lies in a temporary file instead of in memory."""
FINISH_BYTES = 2**20
"""Finished rows handed over at once: few, so that they are still in the processor's cache when they are used."""
WAITING_BYTES = 2**25
"""Rows that wait for a batch to be filled; above it, the batch is run as it is."""

Finish = Callable[[np.ndarray, np.ndarray], None]


class TileNetwork(nn.Module):
    """What `run_tiles` runs.

    Attributes:
        outputs: K.
        stride: pixels of a cell of the output; 1 is full resolution.
        margin: how many pixels around a cell can change it; None is the whole tile.
        multiple: sides of tiles and their starts are multiples of this many pixels.
    """

    outputs: int
    stride: int
    margin: int | None
    multiple: int

    @abstractmethod
    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        """Return outputs_BKhw, of S / stride cells a side.

        Args:
            pixels_BCSS: float32, in the raster's own unit, 0 where invalid.
            valid_BSS: bool.
        """


def run_tiles(
    network: TileNetwork,
    raster: Raster,
    window: Window,
    tiling: TilingConfig,
    device: str,
    batch_size: int,
    finish: Finish,
    check: Callable[[], None],
    progress: Callable[[float], None],
) -> None:
    """Run a network over a window of a raster.

    The result is the crop of what the whole raster would give. With a stride it covers `window.cells(stride)`: its grid
    is `raster.grid.shrink(stride).crop(window.cells(stride))`.

    Args:
        network: is moved to the device and put in eval mode.
        batch_size: tiles in a batch, always as many: the last one is filled up.
        finish: takes consecutive strips of full width, from top to bottom: rows_Khw, float32, of which only the valid
            part means something and which may be overwritten after the call, and valid_hw: a cell is valid when any of
            its pixels is.
        check: is called at every batch, and may raise to end the work.
        progress: is told the share of tiles done.

    Raises:
        UserError: the raster is damaged, or a single tile does not fit the device's memory.
    """
    plan = plan_tiles(tiling, network.multiple, network.stride, network.margin)
    layout = _lay_out(raster.grid, window, plan)
    total, done = len(layout.rows) * len(layout.columns), 0
    canvas = _Canvas(layout, network.outputs, finish)
    runner = _Runner(network, raster, layout, device, batch_size)
    with contextlib.closing(_ahead(_read_strips(raster, layout))) as strips:
        for strip in strips:
            canvas.expect(strip)
            for column in strip.columns:
                done += 1
                pixels_CSS, valid_SS, seen = _cut(strip, column, layout)
                if seen and runner.add(strip.row, column, pixels_CSS, valid_SS):
                    check()
                    canvas.add(runner.swap())
                    progress(done / total)
            if canvas.waiting_bytes > WAITING_BYTES:
                runner.drain(canvas)
                canvas.go_to(strip.row)
            check()
            progress(done / total)
    runner.drain(canvas)
    canvas.go_to(layout.rows.stop)


class _Layout(NamedTuple):
    """Which tiles serve a window, and what they give to it."""

    plan: Plan
    grid: Grid
    cells: Window
    row_starts: range
    column_starts: range
    rows: range
    columns: range

    def owned_rows(self, row: int) -> tuple[int, int]:
        """First and end of the pixel rows, of the cells asked for, that are final with a row of tiles."""
        first, end = owned(row, self.row_starts, self.grid.height)
        low, high = self.cells.row * self.plan.stride, (self.cells.row + self.cells.height) * self.plan.stride
        return max(first, low), max(min(end, high), low)

    def owned_columns(self, columns: range) -> tuple[int, int]:
        """First and end of the pixel columns, of the cells asked for, that belong to some columns of tiles."""
        first = owned(columns[0], self.column_starts, self.grid.width)[0]
        end = owned(columns[-1], self.column_starts, self.grid.width)[1]
        low, high = self.cells.column * self.plan.stride, (self.cells.column + self.cells.width) * self.plan.stride
        return max(first, low), max(min(end, high), low)


class _Strip(NamedTuple):
    """The pixels of some neighbouring tiles of a row, halo included; `row` and `column` may be negative."""

    row: int
    columns: range
    window: Window
    pixels_CHW: np.ndarray
    valid_HW: np.ndarray


class _Results(NamedTuple):
    """A batch on its way back from the device: outputs_BKNN, and the rows and columns of its tiles."""

    places: list[tuple[int, int]]
    outputs_BKNN: Tensor
    ready: Any


def _lay_out(grid: Grid, window: Window, plan: Plan) -> _Layout:
    cells, stride = window.cells(plan.stride), plan.stride
    rows, columns = tile_starts(grid.height, plan), tile_starts(grid.width, plan)
    return _Layout(
        plan,
        grid,
        cells,
        rows,
        columns,
        select_tiles(rows, plan, cells.row * stride, (cells.row + cells.height) * stride),
        select_tiles(columns, plan, cells.column * stride, (cells.column + cells.width) * stride),
    )


def _read_strips(raster: Raster, layout: _Layout) -> Iterator[_Strip]:
    """Read the tiles, row after row; rows that two rows of tiles share are read once."""
    plan = layout.plan
    column_bytes = raster.bands * plan.side * raster.dtype.itemsize
    together = max(1, (STRIP_BYTES // column_bytes - plan.side) // plan.step + 1)
    kept: _Strip | None = None
    for row in layout.rows:
        for first in range(layout.columns.start, layout.columns.stop, together):
            columns = range(first, min(first + together, layout.columns.stop))
            left = layout.column_starts[first] - plan.halo
            width = (len(columns) - 1) * plan.step + plan.side
            whole = Window(layout.row_starts[row] - plan.halo, left, plan.side, width)
            strip = _read_strip(raster, row, columns, whole, kept)
            kept = strip if len(columns) == len(layout.columns) else None
            yield strip


def _read_strip(raster: Raster, row: int, columns: range, window: Window, kept: _Strip | None) -> _Strip:
    """Read a strip, taking from the one above what it shares with it."""
    shared = 0 if kept is None else max(kept.window.row + kept.window.height - window.row, 0)
    below = Window(window.row + shared, window.column, window.height - shared, window.width)
    pixels_CHW, valid_HW = raster.read_native(below, "reflect")
    if kept is not None and shared:
        pixels_CHW = np.concatenate([kept.pixels_CHW[:, -shared:], pixels_CHW], axis=1)
        valid_HW = np.concatenate([kept.valid_HW[-shared:], valid_HW])
    return _Strip(row, columns, window, pixels_CHW, valid_HW)


def _ahead(strips: Iterator[_Strip]) -> Generator[_Strip, None, None]:
    """Prepare the next strip in a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, strips, None)
        while (strip := waiting.result()) is not None:
            waiting = pool.submit(next, strips, None)
            yield strip


def _cut(strip: _Strip, column: int, layout: _Layout) -> tuple[np.ndarray, np.ndarray, bool]:
    """Cut a tile from its strip, and tell whether its core holds a valid pixel."""
    plan = layout.plan
    left = layout.column_starts[column] - plan.halo - strip.window.column
    valid_SS = strip.valid_HW[:, left : left + plan.side]
    core = slice(plan.halo, plan.halo + plan.core)
    return strip.pixels_CHW[:, :, left : left + plan.side], valid_SS, bool(valid_SS[core, core].any())


class _Runner:
    """Collects tiles into batches and runs them: while the device works on one batch, the next is filled."""

    def __init__(self, network: TileNetwork, raster: Raster, layout: _Layout, device: str, batch_size: int) -> None:
        self._network, self._plan, self._device = network.to(device).eval(), layout.plan, torch.device(device)
        self._weights = [
            torch.from_numpy(axis_weights(starts, layout.plan)).to(device)
            for starts in (layout.row_starts, layout.column_starts)
        ]
        convolves = any(weight.ndim == 4 for weight in network.parameters())
        self._memory_format = torch.channels_last if convolves else torch.contiguous_format
        far = self._device.type == "cuda"
        dtype = _torch_type(raster.dtype) if far else torch.float32  # pixels travel in their own type
        side = layout.plan.side
        shape = (batch_size, raster.bands, side, side)
        self._pixels = [torch.zeros(shape, dtype=dtype, pin_memory=far) for _ in range(2)]
        self._valid = [torch.zeros((batch_size, side, side), dtype=torch.bool, pin_memory=far) for _ in range(2)]
        self._places: list[tuple[int, int]] = []
        self._slot, self._running = 0, _Results([], torch.empty(0), None)

    def add(self, row: int, column: int, pixels_CSS: np.ndarray, valid_SS: np.ndarray) -> bool:
        """Put a tile into the batch, and tell whether the batch is full."""
        index = len(self._places)
        np.copyto(self._pixels[self._slot][index].numpy(), pixels_CSS, casting="unsafe")
        np.copyto(self._valid[self._slot][index].numpy(), valid_SS)
        self._places.append((row, column))
        return len(self._places) == len(self._pixels[self._slot])

    def swap(self) -> _Results:
        """Start the batch that was filled, and return the one before it, which must be used before the next call."""
        before, self._running = self._running, self._start()
        if before.ready is not None:
            before.ready.synchronize()
        return before

    def drain(self, canvas: "_Canvas") -> None:
        """Put on a canvas what waits to be run and what runs."""
        canvas.add(self.swap())
        canvas.add(self.swap())

    @torch.inference_mode()
    def _start(self) -> _Results:
        places, slot = self._places, self._slot
        self._places, self._slot = [], 1 - slot
        if not places:
            return _Results([], torch.empty(0), None)
        pixels_BCSS = self._pixels[slot].to(self._device, non_blocking=True)
        valid_BSS = self._valid[slot].to(self._device, non_blocking=True)
        outputs_BKNN = self._forward(pixels_BCSS, valid_BSS)[: len(places)]
        if self._plan.blended:
            rows, columns = (list(index) for index in zip(*places, strict=True))
            weights_BNN = self._weights[0][rows][:, :, None] * self._weights[1][columns][:, None, :]
            outputs_BKNN = outputs_BKNN * weights_BNN[:, None]
        if self._device.type != "cuda":
            return _Results(places, outputs_BKNN.cpu(), None)
        home_BKNN = torch.empty(outputs_BKNN.shape, pin_memory=True).copy_(outputs_BKNN, non_blocking=True)
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(torch.cuda.current_stream(self._device))
        return _Results(places, home_BKNN, ready)

    def _forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        """Run the network; a batch that does not fit is run in two halves."""
        halo, cells = self._plan.halo // self._plan.stride, self._plan.core // self._plan.stride
        try:
            raw_BCSS = pixels_BCSS.to(torch.float32).contiguous(memory_format=self._memory_format)
            outputs_BKhw: Tensor = self._network(raw_BCSS, valid_BSS)
            return outputs_BKhw[:, :, halo : halo + cells, halo : halo + cells].to(torch.float32)
        except torch.OutOfMemoryError as error:
            if len(pixels_BCSS) == 1:
                raise UserError(
                    f"A tile of {self._plan.side} px does not fit the memory of {self._device}. Choose a smaller "
                    "'Tile size', or the CPU under 'Device'.",
                    "tiling.tile_size",
                ) from error
        torch.cuda.empty_cache()
        half = len(pixels_BCSS) // 2
        parts = [slice(None, half), slice(half, None)]
        return torch.cat([self._forward(pixels_BCSS[part], valid_BSS[part]) for part in parts])


class _Canvas:
    """Adds up the tiles of a row, and hands over the rows that no later tile will change."""

    def __init__(self, layout: _Layout, outputs: int, finish: Finish) -> None:
        self._layout, self._plan, self._finish = layout, layout.plan, finish
        self._row = layout.rows.start
        self._valid: dict[int, np.ndarray] = {}
        shape = (outputs, layout.plan.core // layout.plan.stride, layout.cells.width)
        self._sums_KNw = _allocate(shape)

    def expect(self, strip: _Strip) -> None:
        """Note which of the cells that belong to a strip are valid."""
        stride, cells = self._plan.stride, self._layout.cells
        top, bottom = self._layout.owned_rows(strip.row)
        left, right = self._layout.owned_columns(strip.columns)
        rows = slice(top - strip.window.row, bottom - strip.window.row)
        columns = slice(left - strip.window.column, right - strip.window.column)
        valid_hw = any_in_cells(strip.valid_HW[rows, columns], stride) if bottom > top and right > left else None
        if strip.row not in self._valid:
            self._valid[strip.row] = np.zeros((-(-(bottom - top) // stride) if bottom > top else 0, cells.width), bool)
        if valid_hw is not None:
            first = left // stride - cells.column
            self._valid[strip.row][:, first : first + valid_hw.shape[1]] = valid_hw

    def add(self, results: _Results) -> None:
        """Add a batch of tiles, in the order of rows and columns."""
        for (row, column), outputs_KNN in zip(results.places, results.outputs_BKNN.numpy(), strict=True):
            self.go_to(row)
            left = self._layout.column_starts[column] // self._plan.stride - self._layout.cells.column
            first, end = max(left, 0), min(left + outputs_KNN.shape[2], self._layout.cells.width)
            part_KNw = outputs_KNN[:, :, first - left : end - left]
            if self._plan.blended:
                self._sums_KNw[:, :, first:end] += part_KNw
            else:
                self._sums_KNw[:, :, first:end] = part_KNw

    @property
    def waiting_bytes(self) -> int:
        """Size of what is known of rows that are not finished."""
        return sum(valid_hw.nbytes for valid_hw in self._valid.values())

    def go_to(self, row: int) -> None:
        """Hand over what no tile from this row of tiles on can change."""
        step = self._plan.step // self._plan.stride
        while self._row < row:
            self._hand_over()
            self._sums_KNw[:, :-step] = self._sums_KNw[:, step:]
            self._sums_KNw[:, -step:] = 0
            self._row += 1

    def _hand_over(self) -> None:
        stride, start = self._plan.stride, self._layout.row_starts[self._row]
        first = (self._layout.owned_rows(self._row)[0] - start) // stride
        valid_hw = self._valid.pop(self._row)
        height = max(FINISH_BYTES // (self._sums_KNw[:, :1].nbytes), 1)
        for top in range(0, len(valid_hw), height):
            part_hw = valid_hw[top : top + height]
            self._finish(self._sums_KNw[:, first + top : first + top + len(part_hw)], part_hw)


def _allocate(shape: tuple[int, int, int]) -> np.ndarray:
    """Make an array of zeros; a large one lies in a file that vanishes with it."""
    if int(np.prod(shape, dtype=np.int64)) * 4 <= CANVAS_BYTES:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
