"""Features of the parts of a raster that were looked at: computed once, kept in blocks, equal to those of the whole.

Blocks lie on one grid from the raster's pixel (0, 0), along the tiles of inference, so that nothing is computed twice
and a pixel has the same features whatever was looked at before.

Shape letters: D features, N pixels, H rows, W columns of pixels, h and w of cells.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.inference import FEW_TILES, TileNetwork, plan_for, run_tiles, usual_batch
from rsfm.inference_config import TilingConfig
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster

Indices = NDArray[np.int64]
Key = tuple[int, int]
CHUNK = 4
"""Blocks along a side of what is computed at once."""
LEAST_SIDE = 192
"""Side of a block in pixels, at least; a whole number of tiles."""
MOST_BYTES = 1_500_000_000
"""Features that are kept; those that were not used for the longest time give way, never those on the screen."""
FAR = 2**31


class Block(NamedTuple):
    """A block: its pixels, cut to the raster; half precision, which is enough for normalised features."""

    window: Window
    features_Dhw: NDArray[np.float16]
    valid_HW: NDArray[np.bool_]


class FeatureCache:
    """Features of one raster.

    Attributes:
        stride: pixels of a cell, which has one feature; 1 for sources of pixels.
        width: D.
    """

    def __init__(self, network: TileNetwork, raster: Raster, device: str) -> None:
        self.raster, self.stride, self.width = raster, network.stride, network.outputs
        self._network, self._device, self._tiling = network, device, TilingConfig()
        step = plan_for(network, self._tiling).step
        self.side = step * max(1, LEAST_SIDE // step)
        self._blocks: OrderedDict[Key, Block] = OrderedDict()
        self._bytes, self._seen = 0, frozenset[Key]()

    def look_at(self, window: Window) -> Window:
        """Keep the blocks that a window touches, once they are computed; returns all their pixels."""
        window = window.intersection(self.raster.grid.window)
        self._seen = frozenset(self._keys(window))
        return self._pixels(self._seen) if self._seen else window

    def missing(self, window: Window) -> list[Window]:
        """Return what has to be computed for a window, in parts, those nearest to its middle first."""
        groups: dict[Key, list[Key]] = {}
        for key in self._keys(window):
            if key not in self._blocks:
                groups.setdefault((key[0] // CHUNK, key[1] // CHUNK), []).append(key)
        parts = [self._pixels(keys) for keys in groups.values()]
        return sorted(parts, key=lambda part: _distance(part, window))

    def missing_at(self, rows_N: Indices, columns_N: Indices) -> list[Window]:
        """Return what has to be computed for some pixels."""
        return [self._pixels([key]) for key in self._keys_at(rows_N, columns_N) if key not in self._blocks]

    def compute(self, part: Window, check: Callable[[], None]) -> None:
        """Compute a part that was missing."""
        rows: list[NDArray[np.float16]] = []
        valid: list[NDArray[np.bool_]] = []

        def keep(rows_DHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
            rows.append(rows_DHW.astype(np.float16))
            valid.append(valid_HW.copy())

        batch = CHUNK if self._device != "cpu" else usual_batch(self._network, self._tiling) // FEW_TILES
        run_tiles(self._network, self.raster, part, self._tiling, self._device, batch, keep, check, lambda _: None)
        features_Dhw = np.concatenate(rows, axis=1)
        valid_HW = np.concatenate(valid) if self.stride == 1 else self.raster.read_native(part)[1]
        cells = part.cells(self.stride)
        for key in self._keys(part):
            window = self._pixels([key])
            own, top, left = window.cells(self.stride), window.row - part.row, window.column - part.column
            row, column = own.row - cells.row, own.column - cells.column
            block = Block(
                window,
                features_Dhw[:, row : row + own.height, column : column + own.width].copy(),
                valid_HW[top : top + window.height, left : left + window.width].copy(),
            )
            self._keep(key, block)

    def blocks(self, window: Window) -> list[Block]:
        """Return the blocks of a window that are there."""
        return [self._use(key) for key in self._keys(window) if key in self._blocks]

    def at(self, rows_N: Indices, columns_N: Indices) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return features_ND and valid_N of pixels whose blocks are there, bilinear between the centres of cells."""
        valid_N = np.empty(len(rows_N), bool)
        for own, block in self._members(rows_N // self.side, columns_N // self.side):
            valid_N[own] = block.valid_HW[rows_N[own] - block.window.row, columns_N[own] - block.window.column]
        if self.stride == 1:
            return self._gather(rows_N, columns_N), valid_N
        features_ND = np.zeros((len(rows_N), self.width), np.float32)
        for row_N, across_N in self._around(rows_N, self.raster.grid.height):
            for column_N, along_N in self._around(columns_N, self.raster.grid.width):
                features_ND += self._gather(row_N, column_N) * (across_N * along_N)[:, None]
        return features_ND, valid_N

    def _gather(self, rows_N: Indices, columns_N: Indices) -> NDArray[np.float32]:
        """Return features_ND of cells."""
        side = self.side // self.stride
        features_ND = np.empty((len(rows_N), self.width), np.float32)
        for own, block in self._members(rows_N // side, columns_N // side):
            features_ND[own] = block.features_Dhw[:, rows_N[own] % side, columns_N[own] % side].T
        return features_ND

    def _around(self, at_N: Indices, size: int) -> list[tuple[Indices, NDArray[np.float32]]]:
        """Return the two cells around pixels along an axis, and their weights."""
        last = -(-size // self.stride) - 1
        place_N = np.clip((at_N + 0.5) / self.stride - 0.5, 0, last)
        first_N = place_N.astype(np.int64)
        share_N = (place_N - first_N).astype(np.float32)
        return [(first_N, 1 - share_N), (np.minimum(first_N + 1, last), share_N)]

    def _members(self, row_N: Indices, column_N: Indices) -> list[tuple[Indices, Block]]:
        """Return the blocks of some pixels, each with the indices of its own."""
        number_N = row_N * FAR + column_N
        order = np.argsort(number_N, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(number_N[order])) + 1) if len(order) else []
        return [(own, self._use((int(row_N[own[0]]), int(column_N[own[0]])))) for own in groups]

    def _keys_at(self, rows_N: Indices, columns_N: Indices) -> list[Key]:
        """Return the blocks of pixels, and of the cells around them."""
        around: list[tuple[Indices, Indices]] = [(rows_N, columns_N)]
        if self.stride > 1:
            grid = self.raster.grid
            around += [
                (row_N * self.stride, column_N * self.stride)
                for row_N, _ in self._around(rows_N, grid.height)
                for column_N, _ in self._around(columns_N, grid.width)
            ]
        pairs = np.concatenate([np.stack([row_N, column_N], 1) // self.side for row_N, column_N in around])
        return [(int(row), int(column)) for row, column in np.unique(pairs, axis=0)]

    def _keys(self, window: Window) -> list[Key]:
        touched = window.intersection(self.raster.grid.window).cells(self.side)
        if not window.height or not window.width:
            return []
        return [
            (touched.row + row, touched.column + column)
            for row in range(touched.height)
            for column in range(touched.width)
        ]

    def _pixels(self, keys: Sequence[Key] | frozenset[Key]) -> Window:
        """Return the rectangle of pixels around blocks, cut to the raster."""
        rows, columns = [row for row, _ in keys], [column for _, column in keys]
        height, width = max(rows) - min(rows) + 1, max(columns) - min(columns) + 1
        side = self.side
        whole = Window(min(rows) * side, min(columns) * side, height * side, width * side)
        return whole.intersection(self.raster.grid.window)

    def _keep(self, key: Key, block: Block) -> None:
        known = self._blocks.pop(key, None)
        self._bytes += _size(block) - (_size(known) if known else 0)
        self._blocks[key] = block
        for oldest in [key for key in self._blocks if key not in self._seen]:
            if self._bytes <= MOST_BYTES:
                break
            self._bytes -= _size(self._blocks.pop(oldest))

    def _use(self, key: Key) -> Block:
        self._blocks.move_to_end(key)
        return self._blocks[key]


def _size(block: Block) -> int:
    return block.features_Dhw.nbytes + block.valid_HW.nbytes


def _distance(part: Window, whole: Window) -> Any:
    """Return how far the middles of two windows are apart, squared and doubled."""
    down = 2 * part.row + part.height - 2 * whole.row - whole.height
    right = 2 * part.column + part.width - 2 * whole.column - whole.width
    return down * down + right * right
