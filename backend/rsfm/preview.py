"""What can be seen of a map before it is whole: the part on the screen first, then in small all rows that are done.

Previews are made where the plugin asked for them (`look.json` in the run's folder). Each is a small raster that is
valid whenever it is opened: it is written beside the one that is shown, which stays until the next.

Shape letters: K outputs of the network, C bands shown, H rows, W columns.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from rsfm.raster.background import Work
from rsfm.raster.grid import Grid, Window
from rsfm.raster.small_raster import small_raster
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

LARGEST_VIEW, LARGEST_SMALL = 2000, 1024
"""Longest side of the part on the screen and of the whole in small, in pixels."""
EVERY_SECONDS = 3.0
GROWTH = 0.01
"""A preview waits for this share of the time since the first one, so that a long run does not tell of thousands."""
MOST_TIME = 0.01
"""Share of the time that goes into writing previews."""
MOST_WORK = 0.02
"""Share of the work that is done twice to have the part on the screen first."""


class Show(NamedTuple):
    """What is shown of a map.

    Attributes:
        writer: of the file that the map will be.
        kind, title, style: as the output will be reported.
        make: computes bands_CHW as the file has them, the first ones or all, of values_KHW and valid_HW.
        bands: C.
    """

    writer: RasterWriter
    kind: str
    title: str
    style: dict[str, Any]
    make: Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[Any]]
    bands: int = 1


class Preview:
    """A raster that grows from top to bottom, in small where it would be large."""

    def __init__(self, run: Run, show: Show, grid: Grid, name: str, title: str, largest: int) -> None:
        """Begin with nothing.

        Args:
            grid: of the rows that will be taken.
            name: of the files, beside the kind.
            largest: side of the file, in pixels.
        """
        self._run, self._show, self._title = run, show, title
        self._step = step = max(1, -(-max(grid.height, grid.width) // largest))
        height, width = -(-grid.height // step), -(-grid.width // step)
        self._grid = Grid(grid.crs, grid.transform @ Affine.scale(step), height, width)
        kind = show.writer.kind
        self._pixels_CHW = np.full((show.bands, height, width), kind.nodata, kind.dtype)
        self._key = run.previews / f"{show.writer.path.stem}-{name}"
        self._row, self._number = 0, 0
        self._began, self._due, self._wait = time.monotonic(), 0.0, EVERY_SECONDS

    def take(self, values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> tuple[Work, int]:
        """Copy what will be shown of the next rows; return the rest of the work, for any thread, and its bytes."""
        place, rows, columns = self._next(valid_HW.shape[0])
        values_Khw, valid_hw = values_KHW[:, rows, columns].copy(), valid_HW[rows, columns].copy()

        def show() -> None:
            if valid_hw.shape[0]:
                self._put(place, self._show.make(values_Khw, valid_hw))
            if time.monotonic() > self._due:
                self.write()

        return show, values_Khw.nbytes

    def place(self, rows_CHW: NDArray[Any]) -> None:
        """Take the next rows as the file has them."""
        place, rows, columns = self._next(rows_CHW.shape[1])
        self._put(place, rows_CHW[: self._show.bands, rows, columns])

    def write(self) -> None:
        """Show what is there; one that cannot be written, such as on a full disk, is left out."""
        began = time.monotonic()
        path = self._key.with_name(f"{self._key.name}-{self._number % 2 + 1}.tif")
        try:
            self._run.previews.mkdir(parents=True, exist_ok=True)
            kind = self._show.writer.kind
            write_raster(
                path,
                self._pixels_CHW,
                {"crs": self._grid.crs, "transform": self._grid.transform, "nodata": kind.nodata},
            )
        except (RasterioError, OSError):
            self._wait *= 2
        else:
            self._number += 1
            self._run.preview(self._show.kind, path, str(self._key), self._title, **self._show.style)
            now = time.monotonic()
            self._wait = max(EVERY_SECONDS, (now - began) / MOST_TIME, (now - self._began) * GROWTH)
        self._due = time.monotonic() + self._wait

    def _next(self, height: int) -> tuple[int, slice, slice]:
        """Return where the next rows go, and which of their rows and columns are shown: the middle of each step."""
        middle = self._step // 2
        first = (middle - self._row) % self._step
        place = (self._row + first) // self._step
        self._row += height
        return place, slice(first, None, self._step), slice(middle, None, self._step)

    def _put(self, row: int, rows_CHW: NDArray[Any]) -> None:
        _, height, width = rows_CHW.shape
        self._pixels_CHW[:, row : row + height, :width] = rows_CHW


def small_preview(run: Run, show: Show, row: int = 0) -> Preview | None:
    """Begin to show the whole map in small, of which so many rows are done already; None where nobody looks."""
    if run.look is None:
        return None
    preview = Preview(run, show, show.writer.grid, "small", f"{show.title}, so far", LARGEST_SMALL)
    for rows_CHW in show.writer.done(row):
        preview.place(rows_CHW)
    return preview


def view_preview(run: Run, show: Show, grid: Grid) -> Preview:
    """Begin to show the part on the screen, pixel by pixel."""
    return Preview(run, show, grid, "view", f"{show.title}, on the screen", LARGEST_VIEW)


def view_window(run: Run, grid: Grid, whole: Window, work: Callable[[Window], float]) -> Window | None:
    """Choose what to map first: what is on the screen, or as much of its middle as costs little.

    Args:
        whole: what will be mapped.
        work: tells what a window costs, in any unit.

    Returns:
        The pixels of the raster; None where it is not on the screen, or too small to do anything twice.
    """
    window = on_screen(run.look or {}, grid)
    if window is None:
        return None
    window, most = window.intersection(whole), MOST_WORK * work(whole)
    while window.height > 0 and window.width > 0:
        if max(window.height, window.width) <= LARGEST_VIEW and work(window) <= most:
            return window
        height, width = (min(int(side * 0.85), LARGEST_VIEW) for side in (window.height, window.width))
        row, column = window.row + (window.height - height) // 2, window.column + (window.width - width) // 2
        window = Window(row, column, height, width)
    return None


def on_screen(look: dict[str, Any], grid: Grid) -> Window | None:
    """Return the pixels that enclose what is looked at, which may lie outside the raster."""
    bounds = look.get("bounds")
    if not bounds:
        return None
    try:
        if grid.crs is not None and look.get("crs"):
            bounds = transform_bounds(CRS.from_user_input(look["crs"]), grid.crs, *bounds)
    except (RasterioError, ValueError):
        return None
    west, south, east, north = bounds
    corners = [~grid.transform @ (x, y) for x in (west, east) for y in (south, north)]
    if not all(math.isfinite(value) for corner in corners for value in corner):
        return None
    columns, rows = zip(*corners, strict=True)
    row, column = math.floor(min(rows)), math.floor(min(columns))
    return Window(row, column, math.ceil(max(rows)) - row, math.ceil(max(columns)) - column)


def empty_previews(folder: Path) -> None:
    """Leave an empty pixel of every preview, so that a project that was saved with them still opens."""
    for path in folder.rglob("*.tif"):
        with suppress(RasterioError, OSError):
            with rasterio.open(path) as file:
                place = {"crs": file.crs, "nodata": file.nodata}
                place["transform"] = file.transform @ Affine.scale(file.width, file.height)
                empty_CHW = np.full((file.count, 1, 1), file.nodata, file.dtypes[0])
            write_raster(path, empty_CHW, place)


def write_raster(path: Path, pixels_CHW: NDArray[Any], place: dict[str, Any]) -> None:
    """Write a small raster, of which nobody ever opens half.

    Raises:
        OSError: the disk is full or gone; what stood at the path stays.
    """
    bands, height, width = pixels_CHW.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    with small_raster(path, **shape, **place) as file:
        file.write(pixels_CHW)
