"""Draws places from a raster of classes, such as land cover, so that each class gets its share of the windows.

Shape letters: H rows, W columns, N cells.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.reader import open_raster, short_name
from rsfm.raster.resampled import Nearest

SHARES_FIELD = "sampling.shares"
FIELD = "sampling.land_cover"
MOST_CELLS = 2_000_000
"""Cells that are looked at beforehand, of all rasters together; many or large rasters get larger ones."""
STRIP = 8


class Share(NamedTuple):
    """Values of the land cover that count as one class, and its share of the windows."""

    values: tuple[int, ...]
    share: float


class ClassShares:
    """Cells of rasters by their class, from which windows' centres are drawn.

    Attributes:
        shares: of the classes that occur, which sum to 1.
        notes: what could not be done, in sentences.
    """

    def __init__(
        self, path: str, text: str, grids: Sequence[Grid], areas: Sequence[Window], size: int, files: OpenFiles
    ) -> None:
        """Look at the class of a cell in every half window.

        Args:
            text: "50=60, 90+95=10", see `parse_shares`.
            grids, areas: of the rasters that windows are drawn from.
            size: side of a window.

        Raises:
            UserError: the text is not understood, or none of its classes lies under the rasters.
        """
        self._path, self._files, self._grids, self._areas = path, files, grids, areas
        pixels = sum(area.height * area.width for area in areas)
        self._step = max(1, size // 2, math.ceil(math.sqrt(pixels / MOST_CELLS)))
        value_N, self._cell_N3 = self._look()
        wanted = parse_shares(text) or [Share((int(value),), 1.0) for value in np.unique(value_N)]
        cells = [np.flatnonzero(np.isin(value_N, share.values)) for share in wanted]
        absent = [share for share, numbers in zip(wanted, cells, strict=True) if not len(numbers)]
        present = [(share, numbers) for share, numbers in zip(wanted, cells, strict=True) if len(numbers)]
        if not present:
            found = ", ".join(str(value) for value in np.unique(value_N)) or "none"
            raise UserError(
                f"'{short_name(path)}' holds none of the classes asked for under the rasters (it holds {found}). "
                "Choose another 'Land cover', or correct 'Shares'.",
                FIELD,
            )
        total = sum(share.share for share, _ in present)
        self.shares = [Share(share.values, share.share / total) for share, _ in present]
        self._cells = [numbers for _, numbers in present]
        self.notes = tuple(
            f"Class {'+'.join(map(str, share.values))} does not occur in '{short_name(path)}' under the rasters: the "
            "others take its share."
            for share in absent
        )

    def choose(self, random: np.random.Generator) -> int:
        """Draw a class by its share."""
        return int(random.choice(len(self.shares), p=[share.share for share in self.shares]))

    def draw(self, random: np.random.Generator, number: int, size: int) -> tuple[int, Window]:
        """Draw a raster and a window whose centre lies in a cell of a class, or beside it."""
        cells_N = self._cells[number]
        entry, row, column = (int(value) for value in self._cell_N3[cells_N[random.integers(len(cells_N))]])
        down, right = random.integers(0, self._step, 2)
        area = self._areas[entry]
        first_row = int(np.clip(row * self._step + down - size // 2, area.row, area.row + area.height - size))
        last = area.column + area.width - size
        first_column = int(np.clip(column * self._step + right - size // 2, area.column, last))
        return entry, Window(first_row, first_column, size, size)

    def fits(self, entry: int, window: Window, number: int) -> bool:
        """Tell whether a window's centre is of a class."""
        centre = Window(window.row + window.height // 2, window.column + window.width // 2, 1, 1)
        value_HW, valid_HW = self._read(self._grids[entry], centre)
        return bool(valid_HW[0, 0] and value_HW[0, 0] in self.shares[number].values)

    def _look(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of every cell, value_N, and its raster, row and column, cell_N3."""
        values, cells = [np.empty(0, np.int64)], [np.empty((0, 3), np.int32)]
        for number, (grid, area) in enumerate(zip(self._grids, self._areas, strict=True)):
            coarse, inside = grid.shrink(self._step), area.cells(self._step)
            for row in range(inside.row, inside.row + inside.height, STRIP):
                strip = Window(row, inside.column, STRIP, inside.width).intersection(inside)
                value_HW, valid_HW = self._read(coarse, strip)
                rows_N, columns_N = np.nonzero(valid_HW)
                values.append(value_HW[valid_HW].astype(np.int64))
                place = (np.full(len(rows_N), number), rows_N + strip.row, columns_N + strip.column)
                cells.append(np.stack(place, 1).astype(np.int32))
        return np.concatenate(values), np.concatenate(cells)

    def _read(self, grid: Grid, window: Window) -> tuple[np.ndarray, np.ndarray]:
        with self._files.use((self._path, (1,)), lambda: open_raster(self._path, FIELD, numbers=[1])) as raster:
            value_1HW, valid_HW = Nearest(raster, grid).read_native(window)
        return value_1HW[0], valid_HW


def parse_shares(text: str) -> list[Share]:
    """Read "50=60, 90+95=10": values of a class, joined by +, and its share; empty for an empty text.

    Raises:
        UserError: it is not of that form.
    """
    found = []
    try:
        for part in filter(str.strip, text.split(",")):
            values, _, share = part.partition("=")
            found.append(Share(tuple(int(value) for value in values.split("+")), float(share)))
    except ValueError:
        found = [Share((), math.nan)]
    every = [value for share in found for value in share.values]
    if not all(math.isfinite(share.share) and share.share > 0 for share in found) or len(set(every)) < len(every):
        raise UserError(
            f"The shares '{text}' were not understood. Write each class's values in the land cover, joined by +, and "
            "its share, such as '50=60, 40=10, 90+95=30', each value once.",
            SHARES_FIELD,
        )
    return found
