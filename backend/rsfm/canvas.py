"""Adds up tiles and hands over the rows that are final, with the memory of one row of tiles.

Shape letters: B batch, K outputs, N cells of a tile's core, h and w rows and columns of cells, P planes, v values of
the cells of a row.
"""

import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rsfm.raster.strips import Layout, Strip
from rsfm.raster.tiling import axis_weights

CANVAS_BYTES = 2**30
"""A larger canvas lies in a temporary file instead of in memory."""
FINISH_BYTES = 2**20
"""Finished rows handed over at once: few, so that they are still in the processor's cache when they are used."""

Finish = Callable[[np.ndarray, np.ndarray], None]


class Canvas:
    """Adds up the tiles of a row, and hands over the rows that no later tile will change.

    The sums lie in memory as the network's outputs do: the outputs of a cell together, in 1 plane of K values a cell,
    or in K planes of 1 value a cell.
    """

    def __init__(self, layout: Layout, outputs: int, finish: Finish) -> None:
        self._layout, self._plan, self._finish, self._outputs = layout, layout.plan, finish, outputs
        self._row = layout.rows.start
        self._valid: dict[int, np.ndarray] = {}
        self._together = 1
        self._sums_PNv: np.ndarray | None = None
        self._row_weights_TN, self._column_weights_TN = (
            torch.from_numpy(axis_weights(starts, layout.plan)) for starts in (layout.row_starts, layout.column_starts)
        )

    def expect(self, strip: Strip) -> None:
        """Note which of the cells that belong to a strip are valid."""
        first, valid_hw = strip.owned_cells(self._layout)
        if strip.row not in self._valid:
            self._valid[strip.row] = np.zeros((len(valid_hw), self._layout.cells.width), bool)
        self._valid[strip.row][:, first : first + valid_hw.shape[1]] = valid_hw

    @torch.inference_mode()
    def add(self, places: Sequence[tuple[int, int]], outputs_BKNN: Tensor) -> None:
        """Weigh tiles in place and put them down, in the order of rows and columns, on top of earlier ones."""
        if self._sums_PNv is None and places:
            self._together = self._outputs if outputs_BKNN.stride(1) == 1 else 1
        for (row, column), outputs_KNN in zip(places, outputs_BKNN, strict=True):
            self.go_to(row)
            self._put(row, column, self._planes(outputs_KNN))

    def _put(self, row: int, column: int, tile_PNv: Tensor) -> None:
        left = self._layout.column_starts[column] // self._plan.stride - self._layout.cells.column
        blended = self._plan.shared > 0
        below, beside = blended and row > self._layout.rows[0], blended and column > self._layout.columns[0]
        row_N, column_v = self._row_weights_TN[row], self._column_weights_TN[column].repeat_interleave(self._together)
        for band in self._plan.bands:
            if not band.alone:
                values = slice(band.first * self._together, band.end * self._together)
                tile_PNv[:, band.first : band.end] *= row_N[band.first : band.end, None]
                tile_PNv[:, :, values] *= column_v[values]
        sums_PNv = torch.from_numpy(self._sums())
        for high in self._plan.first_and_rest:
            for wide in self._plan.first_and_rest:
                first, end = max(wide.first, -left), min(wide.end, self._layout.cells.width - left)
                if first >= end:
                    continue
                rows, values = slice(high.first, high.end), slice(first * self._together, end * self._together)
                sums_Phv = sums_PNv[:, rows, (left + first) * self._together : (left + end) * self._together]
                if (below and high.first == 0) or (beside and wide.first == 0):
                    sums_Phv += tile_PNv[:, rows, values]
                else:
                    sums_Phv.copy_(tile_PNv[:, rows, values])

    def _planes(self, outputs_KNN: Tensor) -> Tensor:
        """Return a tile as the sums lie in memory: planes, rows, values."""
        return outputs_KNN if self._together == 1 else outputs_KNN.permute(1, 2, 0).flatten(1)[None]

    def _sums(self) -> np.ndarray:
        if self._sums_PNv is None:
            planes, rows = self._outputs // self._together, self._plan.core // self._plan.stride
            self._sums_PNv = _allocate((planes, rows, self._layout.cells.width * self._together))
        return self._sums_PNv

    @property
    def waiting_bytes(self) -> int:
        """Size of what is known of rows that are not finished."""
        return sum(valid_hw.nbytes for valid_hw in self._valid.values())

    def go_to(self, row: int) -> None:
        """Hand over what no tile from this row of tiles on can change."""
        step = self._plan.step // self._plan.stride
        while self._row < row:
            self._hand_over()
            sums_PNv = self._sums()
            sums_PNv[:, :-step] = sums_PNv[:, step:]
            self._row += 1

    def _hand_over(self) -> None:
        stride, start = self._plan.stride, self._layout.row_starts[self._row]
        first = (self._layout.owned_rows(self._row)[0] - start) // stride
        valid_hw, sums_PNv = self._valid.pop(self._row), self._sums()
        height = max(FINISH_BYTES // (sums_PNv[:, :1].nbytes), 1)
        for top in range(0, len(valid_hw), height):
            part_hw = valid_hw[top : top + height]
            rows_Phv = sums_PNv[:, first + top : first + top + len(part_hw)]
            if self._together > 1:
                rows_Phv = np.ascontiguousarray(rows_Phv.reshape(*part_hw.shape, -1).transpose(2, 0, 1))
            self._finish(rows_Phv, part_hw)


def _allocate(shape: tuple[int, int, int]) -> np.ndarray:
    """Make an array of zeros; a large one lies in a file that vanishes with it."""
    if int(np.prod(shape, dtype=np.int64)) * 4 <= CANVAS_BYTES:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
