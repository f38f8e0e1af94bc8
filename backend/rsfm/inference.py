"""Runs a network over a raster of any size, in tiles, with memory that does not grow with its height.

Rows of tiles go from top to bottom. Each band of rows is read once, by a thread that is one step ahead; tiles are cut
from it, run in batches of a fixed shape, and added to a canvas of one tile's height; finished rows are handed over.

Shape letters: B batch, C bands, H rows, W columns, K outputs, S side of a tile, N cells of a tile's core, h and w rows
and columns of cells.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rsfm.allocator import keep_freed_memory
from rsfm.canvas import Canvas, Finish
from rsfm.errors import UserError
from rsfm.inference_config import TilingConfig
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster
from rsfm.raster.strips import Inside, Layout, lay_out, strips_ahead
from rsfm.raster.tiling import Plan, plan_tiles

FEW_TILES, BATCH_PIXELS = 4, 4 * 256**2
WAITING_BYTES = 2**25
"""Rows that wait for a batch to be filled; above it, the batch is run as it is."""


class TileNetwork(nn.Module):
    """What `run_tiles` runs.

    Attributes:
        outputs: K.
        stride: pixels of a cell of the output; 1 is full resolution.
        margin: how many pixels around a cell can change it; None is the whole tile.
        multiple: sides of tiles and their starts are multiples of this many pixels.
        window: side of the windows that it learnt with, where it sees the whole tile; 0 where any tile does.
    """

    window: int = 0
    outputs: int
    stride: int
    margin: int | None
    multiple: int

    @abstractmethod
    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        """Return outputs_BKhw, of S / stride cells a side, which may be written over.

        Args:
            pixels_BCSS: float32, in the raster's own unit, 0 where invalid.
            valid_BSS: bool.
        """


def plan_for(network: TileNetwork, tiling: TilingConfig) -> Plan:
    """Choose the tiles of a network."""
    return plan_tiles(tiling, network.multiple, network.stride, network.margin, network.window)


def usual_batch(network: TileNetwork, tiling: TilingConfig) -> int:
    """Return how many tiles make a batch where nothing was tried: four, or more where they are small."""
    return max(FEW_TILES, BATCH_PIXELS // plan_for(network, tiling).side ** 2)


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
    inside: Inside | None = None,
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
        inside: tells which pixels of a window are asked for; the rest is invalid, and tiles without any are not run.

    Raises:
        UserError: the raster is damaged, or a single tile does not fit the device's memory.
    """
    keep_freed_memory()
    plan = plan_for(network, tiling)
    layout = lay_out(raster.grid, window, plan)
    total, done = len(layout.rows) * len(layout.columns), 0
    canvas = Canvas(layout, network.outputs, finish)
    runner = _Runner(network, raster, layout, device, batch_size)
    with strips_ahead(raster, layout, inside) as strips:
        for strip in strips:
            canvas.expect(strip)
            for column in strip.columns:
                done += 1
                pixels_CSS, valid_SS, needed = strip.cut(column, layout)
                if needed and runner.add(strip.row, column, pixels_CSS, valid_SS):
                    check()
                    canvas.add(*runner.swap())
                    progress(done / total)
            if canvas.waiting_bytes > WAITING_BYTES:
                runner.drain(canvas)
                canvas.go_to(strip.row)
            check()
            progress(done / total)
    runner.drain(canvas)
    canvas.go_to(layout.rows.stop)


class _Results(NamedTuple):
    """A batch on its way back from the device: outputs_BKNN, and the rows and columns of its tiles."""

    places: list[tuple[int, int]]
    outputs_BKNN: Tensor
    ready: Any = None


class _Runner:
    """Collects tiles into batches and runs them: while a GPU works on one batch, the next is filled."""

    def __init__(self, network: TileNetwork, raster: Raster, layout: Layout, device: str, batch_size: int) -> None:
        self._network, self._plan, self._device = network.to(device).eval(), layout.plan, torch.device(device)
        convolves = any(_overlaps(module) for module in network.modules())
        self._memory_format = torch.channels_last if convolves else torch.contiguous_format
        self._far = far = self._device.type == "cuda"
        dtype = _torch_type(raster.dtype) if far else torch.float32  # pixels travel in their own type
        side, slots = layout.plan.side, range(2 if far else 1)
        shape = (batch_size, raster.bands, side, side)
        self._pixels = [torch.zeros(shape, dtype=dtype, pin_memory=far) for _ in slots]
        self._valid = [torch.zeros((batch_size, side, side), dtype=torch.bool, pin_memory=far) for _ in slots]
        self._places: list[tuple[int, int]] = []
        self._slot, self._running = 0, _Results([], torch.empty(0))

    def add(self, row: int, column: int, pixels_CSS: np.ndarray, valid_SS: np.ndarray) -> bool:
        """Put a tile into the batch, and tell whether the batch is full."""
        index = len(self._places)
        self._pixels[self._slot][index].copy_(torch.from_numpy(pixels_CSS))
        self._valid[self._slot][index].copy_(torch.from_numpy(valid_SS))
        self._places.append((row, column))
        return len(self._places) == len(self._pixels[self._slot])

    def swap(self) -> tuple[list[tuple[int, int]], Tensor]:
        """Start the batch that was filled, and return one that is done, to be used before another tile is added.

        On a GPU it is the batch before.
        """
        done = self._start()
        if self._far:
            done, self._running = self._running, done
        if done.ready is not None:
            done.ready.synchronize()
        return done.places, done.outputs_BKNN

    def drain(self, canvas: Canvas) -> None:
        """Put on a canvas what waits to be run and what runs."""
        canvas.add(*self.swap())
        canvas.add(*self.swap())

    @torch.inference_mode()
    def _start(self) -> _Results:
        places, slot = self._places, self._slot
        self._places, self._slot = [], (slot + 1) % len(self._pixels)
        if not places:
            return _Results([], torch.empty(0))
        pixels_BCSS = self._pixels[slot].to(self._device, non_blocking=True)
        valid_BSS = self._valid[slot].to(self._device, non_blocking=True)
        outputs_BKNN = self._forward(pixels_BCSS, valid_BSS)[: len(places)]
        if not self._far:
            return _Results(places, outputs_BKNN)
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


def _overlaps(module: nn.Module) -> bool:
    """Tell a true convolution from the cutting of patches, which no order of the channels makes faster."""
    return isinstance(module, nn.Conv2d) and module.kernel_size > module.stride


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
