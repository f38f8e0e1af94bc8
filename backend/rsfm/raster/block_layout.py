"""Cuts rasters into windows of whole file blocks, in the order of the file, and draws some of them evenly."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rsfm.raster.grid import Window


class Layout(NamedTuple):
    """The windows, numbered row by row, that an area of a raster is cut into.

    Attributes:
        area: what they cover; they are cut at its edge.
        height, width: of a window, counted from the raster's pixel (0, 0).
    """

    area: Window
    height: int
    width: int

    @property
    def size(self) -> int:
        """Number of windows."""
        if not self.area.height or not self.area.width:
            return 0
        return self._rows.size * self._columns.size

    def window(self, number: int) -> Window:
        """Return a window by its number."""
        row, column = divmod(number, self._columns.size)
        corner = self._rows.first + row, self._columns.first + column
        cell = Window(corner[0] * self.height, corner[1] * self.width, self.height, self.width)
        return cell.intersection(self.area)

    def windows(self) -> Iterator[Window]:
        return (self.window(number) for number in range(self.size))

    @property
    def _rows(self) -> "_Cells":
        return _Cells.of(self.area.row, self.area.height, self.height)

    @property
    def _columns(self) -> "_Cells":
        return _Cells.of(self.area.column, self.area.width, self.width)


class _Cells(NamedTuple):
    first: int
    size: int

    @classmethod
    def of(cls, start: int, length: int, step: int) -> "_Cells":
        first = start // step
        return cls(first, -(-(start + length) // step) - first)


def lay_out(area: Window, block: tuple[int, int], fewest: int, most: int) -> Layout:
    """Group file blocks into windows of at least `fewest` pixels where the area allows, or cut those above `most`.

    Args:
        block: height and width of a block of the file.
    """
    height, width = block
    if height * width > most:
        width = min(width, most)
        return Layout(area, max(most // width, 1), width)
    across = -(-(area.column + area.width) // width)
    width *= max(min(-(-fewest // (height * width)), across), 1)
    height *= max(min(-(-fewest // (height * width)), most // (height * width)), 1)
    return Layout(area, height, width)


def draw(layouts: Sequence[Layout], count: int, seed: int) -> list[list[int]]:
    """Draw windows spread evenly over all rasters: one at random from each of `count` equal parts of the row of all.

    Returns:
        The numbers of the windows of each layout, ascending; all of them when there are no more than `count`.
    """
    ends = np.cumsum([layout.size for layout in layouts])
    total = int(ends[-1])
    edges = np.linspace(0, total, min(count, total) + 1).round().astype(np.int64)
    drawn = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    owner = np.searchsorted(ends, drawn, "right")
    drawn -= np.where(owner > 0, ends[owner - 1], 0)
    bounds = np.searchsorted(owner, np.arange(len(layouts) + 1))
    return [drawn[start:end].tolist() for start, end in pairwise(bounds)]
