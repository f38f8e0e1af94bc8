"""Keeps decoded cells of rasters, up to a limit of bytes; forgets those used longest ago first.

A cell is kept from the second time on that it is decoded, unless all are to be kept: most cells of a large collection
never come back, and memory that is new to the process costs a fifth of the time that decoding takes. Cells lie side by
side in slabs, which the system hands out faster than small arrays. A slab is forgotten as a whole.
"""

import math
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

SLAB_BYTES = 32 * 2**20
MOST_SEEN = 200_000
"""Cells of which it is remembered that they were decoded."""
ALIGNMENT = 64
"""Bytes; cells start at multiples of it."""


class Cell(NamedTuple):
    """A decoded cell: pixels_CHW in the raster's type, 0 where invalid; valid_HW, None where all are."""

    pixels_CHW: np.ndarray
    valid_HW: np.ndarray | None


class Room(NamedTuple):
    """Memory for the pixels of a cell, and the number of its slab."""

    pixels_CHW: np.ndarray
    slab: int


class CellCache:
    """Cells by any key. Several threads may use it; nobody may change a cell that was put in.

    Attributes:
        nbytes: of all slabs.
    """

    def __init__(self, limit_bytes: int, at_once: bool = False) -> None:
        """Start empty.

        Args:
            at_once: keep a cell from the first time on.
        """
        self.limit_bytes, self.at_once, self.nbytes = limit_bytes, at_once, 0
        self._cells: dict[Any, tuple[Cell, int]] = {}
        self._seen: set[Any] = set()
        self._slabs: OrderedDict[int, _Slab] = OrderedDict()
        self._newest = -1
        self._lock = threading.Lock()

    def get(self, key: Any) -> Cell | None:
        with self._lock:
            if key not in self._cells:
                return None
            cell, slab = self._cells[key]
            self._slabs.move_to_end(slab)
            return cell

    def room(self, key: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Room | None:
        """Find memory for a cell, forgetting others; None when it is not to be kept, or larger than the limit."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            if not self.at_once and key not in self._seen:
                if len(self._seen) >= MOST_SEEN:
                    self._seen.clear()
                self._seen.add(key)
                return None
            slab = self._slabs.get(self._newest)
            if slab is None or slab.used + size > len(slab.memory):
                slab = self._add_slab(size)
            if slab is None:
                return None
            start = slab.used
            slab.used += _aligned(size)
            return Room(slab.memory[start : start + size].view(dtype).reshape(shape), self._newest)

    def put(self, key: Any, room: Room, valid_HW: np.ndarray | None) -> Cell:
        """Keep a cell whose pixels were written into its room, and return it."""
        cell = Cell(room.pixels_CHW, valid_HW)
        with self._lock:
            slab = self._slabs.get(room.slab)
            if slab is not None:  # else it was forgotten in the meantime
                self._cells[key] = cell, room.slab
                slab.keys.append(key)
        return cell

    def _add_slab(self, size: int) -> "_Slab | None":
        if size > self.limit_bytes:
            return None
        size = max(_aligned(size) * (min(SLAB_BYTES, self.limit_bytes // 4) // _aligned(size)), size)
        while self.nbytes + size > self.limit_bytes:
            number, oldest = self._slabs.popitem(last=False)
            self.nbytes -= len(oldest.memory)
            for key in oldest.keys:
                if self._cells.get(key, (None, -1))[1] == number:
                    del self._cells[key]
        self._newest += 1
        self.nbytes += size
        self._slabs[self._newest] = _Slab(size)
        return self._slabs[self._newest]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Slab:
    """Memory, how much of it is used, and the keys of the cells in it."""

    def __init__(self, size: int) -> None:
        self.memory = np.empty(size, np.uint8)
        self.used = 0
        self.keys: list[Any] = []
