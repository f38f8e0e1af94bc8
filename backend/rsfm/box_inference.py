"""Runs a network that finds objects over a raster of any size, in tiles, with memory that its height does not change.

Tiles lie on one grid, counted from the raster's pixel (0, 0), whatever area is asked for; each keeps the boxes whose
centre lies in its core, and rows of tiles are handed over from top to bottom.

Shape letters: B batch, C bands, S side of a tile, N boxes.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rsfm.errors import UserError
from rsfm.raster.boxes import BOX, Boxes, make_boxes
from rsfm.raster.reader import Raster
from rsfm.raster.seams import ObjectTiles, keep_of_tile
from rsfm.raster.strips import Inside, Layout, strips_ahead


class Found(NamedTuple):
    """Objects of one tile: left, top, right, bottom in its pixels, scores, and classes, of which 1 is the first."""

    corners_N4: Tensor
    score_N: Tensor
    class_N: Tensor


class BoxNetwork(nn.Module):
    """What `run_boxes` runs.

    Attributes:
        multiple: sides of tiles and their starts are multiples of this many pixels.
    """

    multiple: int

    @abstractmethod
    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> list[Found]:
        """Find the objects of each tile, each once.

        Args:
            pixels_BCSS: float32, in the raster's own unit, 0 where invalid.
            valid_BSS: bool.
        """


def run_boxes(
    network: BoxNetwork,
    raster: Raster,
    layout: Layout,
    tiles: ObjectTiles,
    device: str,
    batch_size: int,
    finish: Callable[[Boxes], None],
    check: Callable[[], None],
    progress: Callable[[float], None],
    inside: Inside | None = None,
) -> None:
    """Run a network over the tiles of a layout.

    Args:
        network: is moved to the device and put in eval mode.
        batch_size: tiles in a batch, always as many: the last one is filled up.
        finish: takes the boxes of consecutive rows of tiles, from top to bottom.
        check: is called at every batch, and may raise to end the work.
        inside: tells which pixels of a window are asked for; tiles without any are not run.

    Raises:
        UserError: the raster is damaged, or a single tile does not fit the device's memory.
    """
    runner = _Runner(network, raster, tiles, device, batch_size)
    rows: dict[int, list[Boxes]] = {}
    total, done = len(layout.rows) * len(layout.columns), 0

    def hand_over(end: int) -> None:
        for row in [row for row in rows if row < end]:
            finish(np.concatenate([np.empty(0, BOX), *rows.pop(row)]))

    with strips_ahead(raster, layout, inside) as strips:
        for strip in strips:
            rows.setdefault(strip.row, [])
            for column in strip.columns:
                done += 1
                pixels_CSS, valid_SS, needed = strip.cut(column, layout)
                start = layout.row_starts[strip.row], layout.column_starts[column]
                number = strip.row * len(layout.column_starts) + column
                if needed and runner.add(_Tile(strip.row, number, start, valid_SS.copy()), pixels_CSS):
                    check()
                    for row, boxes_N in runner.run():
                        rows[row].append(boxes_N)
                    hand_over(strip.row)
                    progress(done / total)
            check()
            if not runner.waiting:
                hand_over(strip.row)
            progress(done / total)
    for row, boxes_N in runner.run():
        rows[row].append(boxes_N)
    hand_over(layout.rows.stop)


class _Tile(NamedTuple):
    row: int
    number: int
    start: tuple[int, int]
    valid_SS: np.ndarray


class _Runner:
    """Fills batches of a fixed shape and runs them."""

    def __init__(self, network: BoxNetwork, raster: Raster, tiles: ObjectTiles, device: str, batch_size: int) -> None:
        self._network, self._device = network.to(device).eval(), torch.device(device)
        self._tiles, self._grid = tiles, raster.grid
        side = tiles.plan.side
        self._pixels_BCSS = np.zeros((batch_size, raster.bands, side, side), np.float32)
        self.waiting: list[_Tile] = []

    def add(self, tile: _Tile, pixels_CSS: np.ndarray) -> bool:
        """Put a tile into the batch, and tell whether the batch is full."""
        self._pixels_BCSS[len(self.waiting)] = pixels_CSS
        self.waiting.append(tile)
        return len(self.waiting) == len(self._pixels_BCSS)

    def run(self) -> list[tuple[int, Boxes]]:
        """Run what waits, and return for each tile its row and the boxes it answers for, in pixels of the raster."""
        tiles, self.waiting = self.waiting, []
        if not tiles:
            return []
        valid_BSS = np.zeros((len(self._pixels_BCSS), *self._pixels_BCSS.shape[2:]), bool)
        for index, tile in enumerate(tiles):
            valid_BSS[index] = tile.valid_SS
        found = self._forward(torch.from_numpy(self._pixels_BCSS), torch.from_numpy(valid_BSS))
        return [
            (tile.row, keep_of_tile(boxes_N, tile.number, tile.start, tile.valid_SS, self._tiles, self._grid))
            for tile, boxes_N in zip(tiles, found, strict=False)
        ]

    @torch.inference_mode()
    def _forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> list[Boxes]:
        """Run the network; a batch that does not fit is run in two halves."""
        try:
            found = self._network(pixels_BCSS.to(self._device), valid_BSS.to(self._device))
            return [make_boxes(*(part.cpu().numpy() for part in each)) for each in found]
        except torch.OutOfMemoryError as error:
            if len(pixels_BCSS) == 1:
                raise UserError(
                    f"A tile of {self._tiles.plan.side} px does not fit the memory of {self._device}. Choose a smaller "
                    "'Tile size' or 'Largest object', or the CPU under 'Device'.",
                    "tile_size",
                ) from error
        torch.cuda.empty_cache()
        half = len(pixels_BCSS) // 2
        return self._forward(pixels_BCSS[:half], valid_BSS[:half]) + self._forward(pixels_BCSS[half:], valid_BSS[half:])
