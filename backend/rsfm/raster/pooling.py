"""Adds up what a network says of the cells of each object, from rows that come from top to bottom.

Only the objects that are not complete are held, so memory follows the rows, not the raster. A cell counts for an object
as often as it has valid pixels in it.

Shape letters: K values, h and w rows and columns of cells, M pairs of a pixel and an object, J objects, U cells.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rsfm.raster.grid import Window
from rsfm.raster.pooled_object import Indices, Objects, Pairs

PAIRS = 2**21
"""Pixels whose objects are looked up at once."""


class Pooled(NamedTuple):
    """Objects that are complete.

    Attributes:
        object_J: which.
        pixels_J: how many pixels each has on the raster; valid_J: how many of them are valid.
        mean_JK, std_JK: of the valid pixels; not numbers where there are none.
    """

    object_J: Indices
    pixels_J: Indices
    valid_J: Indices
    mean_JK: NDArray[np.float64]
    std_JK: NDArray[np.float64]

    def take(self, chosen: NDArray[Any]) -> "Pooled":
        """Return some of the objects, by their places or by flags."""
        return Pooled(
            self.object_J[chosen],
            self.pixels_J[chosen],
            self.valid_J[chosen],
            self.mean_JK[chosen],
            self.std_JK[chosen],
        )


class Pooling:
    """Takes rows of cells from top to bottom, and hands over objects as soon as no later row can change them.

    Attributes:
        row: the first row of cells that is not taken yet.
    """

    def __init__(self, objects: Objects, values: int, stride: int, done: Callable[[Pooled], None]) -> None:
        """Begin at the top.

        Args:
            values: K, of a cell.
            stride: pixels of a cell.
        """
        self._objects, self._stride, self._done = objects, stride, done
        self._cells = objects.area.window.cells(stride)
        self._values, self.row = values, 0
        self._order = np.argsort(objects.end_N, kind="stable")
        self._complete = int(np.searchsorted(objects.end_N[self._order], objects.area.window.row, side="right"))
        self._sums = _Sums(len(objects.end_N), 2 + 2 * values)
        self._known = Window(0, 0, 0, 0)
        self._pairs = Pairs(*[np.empty(0, np.int64)] * 3)

    def add(self, values_Khw: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        """Take rows of cells.

        Args:
            valid_HW: of the pixels of the cells; what hangs over the raster's edge is not valid.
        """
        window = self.pixels(self.row, values_Khw.shape[1])
        for part in self._parts(window):
            self._pool(part, window, values_Khw, valid_HW)
        self.row += values_Khw.shape[1]
        below = window.row + window.height
        end = int(np.searchsorted(self._objects.end_N[self._order], below, side="right"))
        if end > self._complete:
            self._done(self._take(self._order[self._complete : end]))
            self._complete = end

    def pixels(self, row: int, rows: int) -> Window:
        """Return the pixels of rows of cells."""
        cells = self._cells._replace(row=self._cells.row + row, height=rows)
        return Window(*(value * self._stride for value in cells))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what a later pooling needs to go on."""
        object_J, sums_JS = self._sums.state()
        return {"row": np.array(self.row), "object_J": object_J, "sums_JS": sums_JS}

    def go_on(self, row: NDArray[Any], object_J: NDArray[Any], sums_JS: NDArray[Any]) -> None:
        """Go on where another one was."""
        self.row = int(row)
        self._sums.add(object_J, sums_JS)
        above = self.pixels(self.row, 0).row if self.row else self._objects.area.window.row
        self._complete = int(np.searchsorted(self._objects.end_N[self._order], above, side="right"))

    def _parts(self, window: Window) -> list[Pairs]:
        """Return the pixels of objects in a window; more rows are looked up at once, and kept."""
        found, row, end = [], window.row, window.row + window.height
        while row < end:
            if not self._known.row <= row < self._known.row + self._known.height:
                height = max(PAIRS // max(window.width, 1), 1)
                self._known = window._replace(row=row, height=height)
                self._pairs = self._objects.find(self._known.intersection(self._objects.area.window))
            until = min(end, self._known.row + self._known.height)
            first, last = np.searchsorted(self._pairs.row_M, [row, until])
            if last > first:
                found.append(Pairs(*(part_M[first:last] for part_M in self._pairs)))
            row = until
        return found

    def _pool(self, pairs: Pairs, window: Window, values_Khw: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        rows_M, columns_M = pairs.row_M - window.row, pairs.column_M - window.column
        object_J, local_M = _numbered(pairs.object_M)
        valid_M = valid_HW[rows_M, columns_M]
        width = values_Khw.shape[2]
        cell_M = rows_M[valid_M] // self._stride * width + columns_M[valid_M] // self._stride
        cell_U, at_M = _numbered(cell_M)
        ones_M, shape = np.ones(len(at_M)), (len(object_J), len(cell_U))
        weight_JU = csr_array((ones_M, (local_M[valid_M], at_M)), shape=shape)
        values_UK = values_Khw.reshape(len(values_Khw), -1)[:, cell_U].T.astype(np.float64)
        pixels_J = np.bincount(local_M, minlength=len(object_J))
        valid_J = np.bincount(local_M[valid_M], minlength=len(object_J))
        sums_JK, squares_JK = (np.asarray(weight_JU @ power_UK) for power_UK in (values_UK, values_UK**2))
        self._sums.add(object_J, np.column_stack([pixels_J, valid_J, sums_JK, squares_JK]))

    def _take(self, object_J: Indices) -> Pooled:
        sums_JS = self._sums.take(object_J)
        pixels_J, valid_J = sums_JS[:, :2].astype(np.int64).T
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_JK, square_JK = np.split(sums_JS[:, 2:] / sums_JS[:, 1:2], 2, axis=1)
        return Pooled(object_J, pixels_J, valid_J, mean_JK, np.sqrt(np.maximum(square_JK - mean_JK**2, 0)))


class _Sums:
    """Sums of the objects that have been met and are not complete; each has a place while it needs one."""

    def __init__(self, objects: int, width: int) -> None:
        self._place_N = np.full(objects, -1, np.int64)
        self._sums_PS = np.zeros((0, width))
        self._free = np.empty(0, np.int64)

    def add(self, object_J: NDArray[Any], sums_JS: NDArray[Any]) -> None:
        """Add to objects, each of them once."""
        new_J = object_J[self._place_N[object_J] < 0]
        if len(new_J) > len(self._free):
            more = max(len(new_J) - len(self._free), len(self._sums_PS), 64)
            self._free = np.r_[self._free, np.arange(more) + len(self._sums_PS)]
            self._sums_PS = np.vstack([self._sums_PS, np.zeros((more, self._sums_PS.shape[1]))])
        self._place_N[new_J], self._free = self._free[: len(new_J)], self._free[len(new_J) :]
        self._sums_PS[self._place_N[object_J]] += sums_JS

    def take(self, object_J: Indices) -> NDArray[np.float64]:
        """Return the sums of objects, 0 for those never met, and give their places away."""
        found_JS = np.zeros((len(object_J), self._sums_PS.shape[1]))
        met_J = self._place_N[object_J] >= 0
        places = self._place_N[object_J[met_J]]
        found_JS[met_J] = self._sums_PS[places]
        self._sums_PS[places], self._place_N[object_J] = 0, -1
        self._free = np.r_[self._free, places]
        return found_JS

    def state(self) -> tuple[Indices, NDArray[np.float64]]:
        """Return the objects that have a place, and their sums."""
        object_J = np.flatnonzero(self._place_N >= 0)
        return object_J, self._sums_PS[self._place_N[object_J]]


def _numbered(value_M: Indices) -> tuple[Indices, Indices]:
    """Return the values that occur, in order, and the number of each; without sorting where they lie close together."""
    if not len(value_M):
        return value_M, value_M
    lowest, span = int(value_M.min()), int(np.ptp(value_M)) + 1
    if span > 4 * len(value_M):
        found, number_M = np.unique(value_M, return_inverse=True)
        return found, number_M
    there = np.zeros(span, bool)
    there[value_M - lowest] = True
    return np.flatnonzero(there) + lowest, (np.cumsum(there) - 1)[value_M - lowest]
