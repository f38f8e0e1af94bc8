"""Adds up tiles and hands over the rows that are final, with the memory of one row of tiles.

Shape letters: B batch, K outputs, N cells of a tile's core, h and w rows and columns of cells.
"""

import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.strips import Layout, Strip

CANVAS_BYTES = 2**30
"""A larger canvas lies in a temporary file instead of in memory."""
FINISH_BYTES = 2**20
"""Finished rows handed over at once: few, so that they are still in the processor's cache when they are used."""

Finish = Callable[[np.ndarray, np.ndarray], None]


class Canvas:
    """Adds up the tiles of a row, and hands over the rows that no later tile will change."""

    def __init__(self, layout: Layout, outputs: int, finish: Finish) -> None:
        self._layout, self._plan, self._finish = layout, layout.plan, finish
        self._row = layout.rows.start
        self._valid: dict[int, np.ndarray] = {}
        shape = (outputs, layout.plan.core // layout.plan.stride, layout.cells.width)
        self._sums_KNw = _allocate(shape)

    def expect(self, strip: Strip) -> None:
        """Note which of the cells that belong to a strip are valid."""
        first, valid_hw = strip.owned_cells(self._layout)
        if strip.row not in self._valid:
            self._valid[strip.row] = np.zeros((len(valid_hw), self._layout.cells.width), bool)
        self._valid[strip.row][:, first : first + valid_hw.shape[1]] = valid_hw

    def add(self, places: Sequence[tuple[int, int]], outputs_BKNN: NDArray[np.float32]) -> None:
        """Add a batch of tiles, in the order of rows and columns, where earlier ones may lie; put down the rest."""
        for (row, column), outputs_KNN in zip(places, outputs_BKNN, strict=True):
            self.go_to(row)
            left = self._layout.column_starts[column] // self._plan.stride - self._layout.cells.column
            first, end = max(left, 0), min(left + outputs_KNN.shape[2], self._layout.cells.width)
            part_KNw, sums_KNw = outputs_KNN[:, :, first - left : end - left], self._sums_KNw[:, :, first:end]
            above = self._plan.shared if row > self._layout.rows[0] else 0
            beside = max(self._plan.shared + left - first, 0) if column > self._layout.columns[0] else 0
            sums_KNw[:, :above] += part_KNw[:, :above]
            sums_KNw[:, above:, :beside] += part_KNw[:, above:, :beside]
            sums_KNw[:, above:, beside:] = part_KNw[:, above:, beside:]

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
