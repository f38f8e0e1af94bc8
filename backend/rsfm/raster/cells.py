"""How a raster is cut into cells that are decoded as a whole: its file's blocks, or several small ones together.

A cell never changes what is read, only how often a block is decoded.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import rasterio
from rasterio.errors import RasterioError

from rsfm.raster.grid import Window

SMALLEST_SIDE = 64
"""Pixels; smaller blocks are put together, rows of a striped file above all."""
LARGEST_BYTES = 4 * 2**20
"""Decoded bytes up to which blocks are put together."""
LARGEST_BLOCK = 64 * 2**20
"""Decoded bytes from which a block is not kept as a whole, such as that of a file which is one block."""
USUAL_SIDE = 256
"""Pixels, where the blocks are not known or too large."""


class Cells(NamedTuple):
    """Rows and columns at which a raster is cut, in ascending order, with 0 and the raster's height and width."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def window(self, row: int, column: int) -> Window:
        """Return the pixels of the cell in that row and column of cells."""
        top, left = self.rows[row], self.columns[column]
        return Window(top, left, self.rows[row + 1] - top, self.columns[column + 1] - left)

    def down(self, window: Window) -> "list[Shared]":
        """Return what a window shares with each row of cells that it touches."""
        return _shared(self.rows, window.row, window.height)

    def across(self, window: Window) -> "list[Shared]":
        """Return what a window shares with each column of cells that it touches."""
        return _shared(self.columns, window.column, window.width)


class Shared(NamedTuple):
    """Along an axis: the number of a cell, the part of a window that it shows, and which part of the cell that is."""

    number: int
    here: slice
    there: slice


def find_cells(dataset: Any, pixel_bytes: int) -> Cells | None:
    """Cut a file of GDAL along its blocks; a VRT along those of its sources.

    Args:
        pixel_bytes: what a pixel of all bands takes.

    Returns:
        None for a VRT that changes the size of its sources' pixels: a value may then depend on what is read with it.
    """
    mosaic = _mosaic(dataset) if dataset.driver == "VRT" else []
    if mosaic is None:
        return None
    if mosaic:
        return Cells(
            _cuts(dataset.height, (rows for rows, _ in mosaic)), _cuts(dataset.width, (at for _, at in mosaic))
        )
    height, width = dataset.block_shapes[0]
    height, width = min(height, dataset.height), min(width, dataset.width)
    if height * width * pixel_bytes > LARGEST_BLOCK:
        height, width = min(height, USUAL_SIDE), min(width, max(USUAL_SIDE, LARGEST_BYTES // USUAL_SIDE // pixel_bytes))
    width *= _times(width, width * height * pixel_bytes)
    height *= _times(height, width * height * pixel_bytes)
    rows = (*range(0, dataset.height, height), dataset.height)
    return Cells(rows, (*range(0, dataset.width, width), dataset.width))


class _Axis(NamedTuple):
    """Where a source of a VRT starts and ends along an axis, where its first whole block starts, and their side."""

    start: int
    end: int
    block: int
    side: int


def _times(side: int, size: int) -> int:
    """Return how many blocks are put together along an axis."""
    return max(1, min(-(-SMALLEST_SIDE // side), LARGEST_BYTES // size))


def _mosaic(dataset: Any) -> list[tuple[_Axis, _Axis]] | None:
    """Return rows and columns of the sources of a VRT's first band; nothing without any, None when one is rescaled.

    All files are taken to have the blocks of the first.
    """
    text = dataset.tags(ns="xml:VRT").get("xml:VRT", "<VRTDataset/>")
    root = ElementTree.fromstring(text)  # noqa: S314 GDAL wrote it just now
    if int(root.get("rasterYSize", dataset.height)) != dataset.height:  # an overview
        return None
    sources = [source for source in root.iterfind("VRTRasterBand[1]/*") if source.tag.endswith("Source")]
    placed = [(_rectangle(source.find("SrcRect")), _rectangle(source.find("DstRect"))) for source in sources]
    if any(inside[2:] != outside[2:] for inside, outside in placed):
        return None
    if not all(inside and outside for inside, outside in placed) or not sources:
        return []
    high, wide = _block_of(sources[0].find("SourceFilename"), Path(dataset.name).parent)
    return [
        (_axis(inside[1], outside[1], outside[3], high), _axis(inside[0], outside[0], outside[2], wide))
        for inside, outside in placed
    ]


def _block_of(name: ElementTree.Element | None, folder: Path) -> tuple[int, int]:
    """Return height and width of the blocks of a source, the usual ones when it cannot be opened."""
    path = (name.text if name is not None else None) or ""
    if name is not None and name.get("relativeToVRT") == "1":
        path = str(folder / path)
    try:
        with rasterio.open(path) as source:
            height, width = source.block_shapes[0]
    except (RasterioError, OSError):
        height, width = USUAL_SIDE, USUAL_SIDE
    return height, width


def _rectangle(part: ElementTree.Element | None) -> list[float]:
    """Return left, top, width and height in pixels; nothing without them."""
    values = [
        float(part.get(key, "nan")) if part is not None else math.nan for key in ("xOff", "yOff", "xSize", "ySize")
    ]
    return [round(value, 3) for value in values] if all(map(math.isfinite, values)) else []


def _axis(offset: float, start: float, size: float, side: int) -> _Axis:
    first = round(start)
    return _Axis(first, first + round(size), first - round(offset) % side, side)


def _cuts(size: int, axes: Iterable[_Axis]) -> tuple[int, ...]:
    """Return where sources and their blocks start and end, at least SMALLEST_SIDE apart; sources go first."""
    edges, blocks = {0, size}, set()
    for axis in set(axes):
        side = axis.side * -(-SMALLEST_SIDE // axis.side)
        edges |= {axis.start, axis.end}
        blocks |= set(range(axis.block + side, axis.end, side))
    kept = [0]
    for cut in sorted(edges | blocks):
        if size - cut < SMALLEST_SIDE:
            break
        if cut - kept[-1] >= SMALLEST_SIDE:
            kept.append(cut)
        elif cut in edges and kept[-1] not in edges:
            kept[-1] = cut
    return (*kept, size)


def _shared(cuts: tuple[int, ...], start: int, length: int) -> list[Shared]:
    """Return the cells that pixels from `start` on touch."""
    end, found = start + length, []
    for number in range(max(bisect_right(cuts, start) - 1, 0), min(bisect_left(cuts, end), len(cuts) - 1)):
        low, high = max(start, cuts[number]), min(end, cuts[number + 1])
        here, there = slice(low - start, high - start), slice(low - cuts[number], high - cuts[number])
        found.append(Shared(number, here, there))
    return found
