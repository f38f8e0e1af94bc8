"""Keeps decoded cells of rasters, up to a limit of bytes; forgets those used longest ago first."""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np


class Cell(NamedTuple):
    """A decoded cell: pixels_CHW in the raster's type, 0 where invalid; valid_HW, None where all are."""

    pixels_CHW: np.ndarray
    valid_HW: np.ndarray | None

    @property
    def nbytes(self) -> int:
        return self.pixels_CHW.nbytes + (0 if self.valid_HW is None else self.valid_HW.nbytes)


class CellCache:
    """Cells by any key. Several threads may use it; nobody may change a cell."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.nbytes = limit_bytes, 0
        self._cells: OrderedDict[Any, Cell] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Cell | None:
        with self._lock:
            found = self._cells.get(key)
            if found is not None:
                self._cells.move_to_end(key)
            return found

    def put(self, key: Any, cell: Cell) -> None:
        """Keep a cell, unless it is larger than all that may be kept."""
        if cell.nbytes > self.limit_bytes:
            return
        with self._lock:
            replaced = self._cells.pop(key, None)
            self.nbytes += cell.nbytes - (replaced.nbytes if replaced else 0)
            self._cells[key] = cell
            while self.nbytes > self.limit_bytes:
                self.nbytes -= self._cells.popitem(last=False)[1].nbytes
