"""Writes where a map is right and wrong, as a layer, and as a small picture for the report.

Shape letters: N labelled pixels, H rows, W columns, h and w rows and columns of the picture.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.evaluation.mapped import strips
from rsfm.outputs.errors import RIGHT, WRONG, Errors
from rsfm.picture_file import write_picture
from rsfm.raster.grid import Grid, Window
from rsfm.raster.writer import RasterWriter

PICTURE_SIDE = 800
NOTHING = 236
"""Gray of the picture where no label is."""
COLOURS = {RIGHT: (0, 114, 178), WRONG: (213, 94, 0)}

Flags = NDArray[np.bool_]


class ErrorLayer:
    """Takes rows from top to bottom."""

    def __init__(self, path: Path, grid: Grid, window: Window, check: Callable[[], None]) -> None:
        """Begin a layer of a window of a raster."""
        self._writer = RasterWriter(path, Errors, grid.crop(window), colours=COLOURS, check=check)
        self._window, self._upside_down = window, grid.transform.e > 0
        self._factor = max(1, math.ceil(max(window.height, window.width) / PICTURE_SIDE))
        small = grid.crop(window).shrink(self._factor)
        self._count_2hw = np.zeros((2, small.height, small.width))

    def __enter__(self) -> "ErrorLayer":
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def add(self, row: int, known_HW: Flags, right_HW: Flags) -> None:
        """Take rows of full width, from row `row` of the raster on."""
        errors_HW = np.where(known_HW, np.where(right_HW, RIGHT, WRONG), Errors.nodata).astype(np.uint8)
        self._writer.write(errors_HW[None])
        rows_N, columns_N = np.nonzero(known_HW)
        wrong_N = (~right_HW[rows_N, columns_N]).astype(int)
        cell_N = (wrong_N, (rows_N + row - self._window.row) // self._factor, columns_N // self._factor)
        np.add.at(self._count_2hw, cell_N, 1)

    def add_pixels(self, rows_N: NDArray[Any], columns_N: NDArray[Any], right_N: Flags) -> None:
        """Take single pixels of the window, by rising rows; all other pixels are unknown."""
        for strip in strips(self._window):
            first, end = np.searchsorted(rows_N, [strip.row, strip.row + strip.height])
            known_HW, right_HW = np.zeros((2, strip.height, strip.width), bool)
            at = (rows_N[first:end] - strip.row, columns_N[first:end] - strip.column)
            known_HW[at], right_HW[at] = True, right_N[first:end]
            self.add(strip.row, known_HW, right_HW)

    def draw(self, path: Path) -> None:
        """Write the picture: each cell has the colour between right and wrong that its share of errors asks for."""
        total_hw = self._count_2hw.sum(axis=0)
        wrong_hw = self._count_2hw[1] / np.maximum(total_hw, 1)
        right_3, wrong_3 = (np.array(COLOURS[each])[:, None, None] for each in (RIGHT, WRONG))
        colours_3hw = np.where(total_hw > 0, right_3 * (1 - wrong_hw) + wrong_3 * wrong_hw, NOTHING)
        colours_3hw = colours_3hw[:, ::-1] if self._upside_down else colours_3hw
        write_picture(path, np.rint(colours_3hw).astype(np.uint8))
