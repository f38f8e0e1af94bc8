"""Reads windows of a raster with the mask of what is valid, and refuses what would be misplaced or misread.

Shape letters: C bands (without alpha), H rows, W columns.
"""

import contextlib
import copy
import threading
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window as FileWindow

from rsfm.errors import UserError
from rsfm.raster.cells import Cells, find_cells
from rsfm.raster.grid import Grid, Window
from rsfm.raster.mosaic_blocks import Blocks, find_blocks
from rsfm.raster.validity import find_alpha, masked_bands, nodata_marker, probes

Pad = Literal["invalid", "reflect"]


def open_raster(
    path: str, field: str = "raster", require_crs: bool = True, numbers: Sequence[int] | None = None
) -> "Raster":
    """Open a raster that can be used.

    Args:
        field: the parameter that holds the path; errors mark it.
        require_crs: False also takes a raster without CRS or georeference.
        numbers: of the bands wanted, from 1, in their order; None is all but alpha.

    Raises:
        UserError: in one sentence, what is wrong and what to do.
    """
    dataset = open_dataset(path, field)
    problem = find_problem(dataset, require_crs)
    absent = sorted(set(numbers or ()) - set(dataset.indexes))
    if absent and not problem:
        problem = f"has {dataset.count} bands and no band {absent[0]}. Choose a raster that has it."
    if problem:
        dataset.close()
        raise UserError(f"'{short_name(path)}' {problem}", field)
    return Raster(path, dataset, field, numbers)


class Raster:
    """An open raster, which several threads may read at once: each has a file handle for as long as it reads.

    Attributes:
        path: as given.
        name: of the file, for people.
        field: the parameter that held the path.
        grid: where its pixels lie.
        bands: C, without alpha.
        numbers: those of these bands in the file, from 1.
        band_names: the file's descriptions, or "Band 1".
        dtype: the type that holds all bands.
        nodata: the marker of the first band; None when there is none.
        block: height and width of the blocks that are decoded together.
    """

    block: tuple[int, int] = (1, 1)

    def __init__(self, path: str, dataset: Any, field: str = "raster", numbers: Sequence[int] | None = None) -> None:
        self.path, self.name, self.field = path, short_name(path), field
        crs = dataset.crs or None
        self.grid = Grid(crs, dataset.transform, dataset.height, dataset.width)
        alpha = find_alpha(dataset)
        self.numbers = list(numbers or [number for number in dataset.indexes if number != alpha])
        self._alpha = None if alpha in self.numbers else alpha
        self.bands = len(self.numbers)
        names = [dataset.descriptions[number - 1] for number in self.numbers]
        self.band_names = tuple(name or f"Band {number}" for name, number in zip(names, self.numbers, strict=True))
        self.dtype = np.result_type(*(dataset.dtypes[number - 1] for number in self.numbers))
        self.block = dataset.block_shapes[self.numbers[0] - 1]
        self.nodata: float | None = dataset.nodatavals[self.numbers[0] - 1]
        self._markers = [nodata_marker(dataset.nodatavals[number - 1], self.dtype) for number in self.numbers]
        self._masked = masked_bands(dataset, self.numbers)
        self._cells: Cells | None = None
        self._blocks: Blocks | None = None
        self._level: int | None = None
        self._overviews: dict[int, Raster] | None = None
        self._lock = threading.Lock()
        self._idle = [dataset]

    def __enter__(self) -> "Raster":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all handles; no thread may be reading."""
        self.release()
        with self._lock:
            overviews = list((self._overviews or {}).values())
        for overview in overviews:
            overview.close()

    def release(self) -> None:
        """Close the handles that no thread is reading; reading opens another one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for dataset in idle:
            dataset.close()

    @property
    def key(self) -> Hashable:
        """What tells the pixels of a file from those of others, also when it was closed and opened again."""
        return self.path, tuple(self.numbers), self._level

    def cells(self) -> Cells | None:
        """Return how the raster is cut for decoding; None when its pixels do not come from the blocks of a file."""
        if self._cells is None:
            with self._handle() as dataset:
                self._cells = find_cells(dataset, self.bands * self.dtype.itemsize)
        return self._cells

    def files(self) -> list[str]:
        """Return the files that the pixels come from, those of a VRT's sources too."""
        with self._handle() as dataset:
            return [str(path) for path in dataset.files]

    def overview(self, factor: int) -> tuple["Raster", int]:
        """Return the coarsest overview of the file from which the raster can be shrunk by `factor`.

        It is closed with this raster.

        Returns:
            The overview, or the raster itself; and by how much it remains to be shrunk.
        """
        if self._overviews is None:
            self._overviews = self._find_overviews()
        fits = [step for step in self._overviews if factor % step == 0]
        return (self._overviews[max(fits)], factor // max(fits)) if fits else (self, factor)

    def read(self, window: Window, pad: Pad = "invalid") -> tuple[np.ndarray, np.ndarray]:
        """Read pixels and tell which of them are valid.

        The window may pass the raster's edge. What lies outside is invalid, or with "reflect" a mirror image of pixels
        and mask, repeated as often as needed, in which the edge itself appears once, as numpy.pad does it.

        Returns:
            pixels_CHW: float32, in the raster's own unit, 0 where invalid.
            valid_HW: bool, False where a band is nodata or not finite, or a mask or alpha says so.

        Raises:
            UserError: the file is damaged.
        """
        return as_float(*self.read_native(window, pad))

    def read_native(
        self, window: Window, pad: Pad = "invalid", readers: Executor | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read as `read` does, but leave the pixels in the raster's own type.

        Args:
            readers: threads that share the work.
        """
        pixels_CHW = np.empty((self.bands, window.height, window.width), self.dtype)
        valid_HW = np.empty((window.height, window.width), bool)
        self.read_into(window, pixels_CHW, valid_HW, pad, readers)
        return pixels_CHW, valid_HW

    def read_into(
        self,
        window: Window,
        pixels_CHW: np.ndarray,
        valid_HW: np.ndarray,
        pad: Pad = "invalid",
        readers: Executor | None = None,
    ) -> None:
        """Fill arrays as `read_native` makes them."""
        inside = window.intersection(self.grid.window)
        if inside != window:
            pixels_CHW[:], valid_HW[:] = 0, False
        if inside.height and inside.width:
            top, left = inside.row - window.row, inside.column - window.column
            rows, columns = slice(top, top + inside.height), slice(left, left + inside.width)
            self._read_parts(inside, pixels_CHW[:, rows, columns], valid_HW[rows, columns], readers)
        if pad == "reflect" and inside != window and window.height and window.width:
            self._reflect(window, inside, pixels_CHW, valid_HW)

    def _read_parts(
        self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray, readers: Executor | None
    ) -> None:
        """Fill views of arrays, in two halves that share no block if there are threads for it."""
        if readers is None:
            return self._read_inside(window, pixels_CHW, valid_HW)
        height, width = self.block
        across = window.width > width
        block, start, size = (width, window.column, window.width) if across else (height, window.row, window.height)
        middle = (start + size // 2 + block // 2) // block * block - start
        if not 0 < middle < size:
            return self._read_inside(window, pixels_CHW, valid_HW)
        work = []
        for part in (slice(0, middle), slice(middle, size)):
            rows, columns = (slice(None), part) if across else (part, slice(None))
            place = {"column": start + part.start, "width": part.stop - part.start} if across else {}
            place = place or {"row": start + part.start, "height": part.stop - part.start}
            piece = window._replace(**place)
            work.append(readers.submit(self._read_inside, piece, pixels_CHW[:, rows, columns], valid_HW[rows, columns]))
        for done in work:
            done.result()
        return None

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Fill views of arrays from a window that lies inside the raster."""
        part = FileWindow(window.column, window.row, window.width, window.height)
        try:
            with self._handle() as dataset:
                if not self._blocks_of(dataset).read(window, self.numbers, list(pixels_CHW)):
                    dataset.read(self.numbers, window=part, out=pixels_CHW)
                valid_HW[:] = True
                for number in self._masked:
                    valid_HW &= dataset.read_masks(number, window=part) > 0
                if self._alpha is not None:
                    valid_HW &= dataset.read(self._alpha, window=part) > 0
        except (RasterioError, OSError) as error:
            raise UserError(
                f"'{self.name}' is damaged: its pixels near row {window.row}, column {window.column} cannot be read. "
                f"Copy or download the file again, then choose it under '{control(self.field)}'.",
                self.field,
            ) from error
        for band_HW, marker in zip(pixels_CHW, self._markers, strict=True):
            if marker is not None:
                valid_HW &= band_HW != marker
            if self.dtype.kind == "f":
                valid_HW &= np.isfinite(band_HW)
        _clear(pixels_CHW, valid_HW)

    def _blocks_of(self, dataset: Any) -> Blocks:
        """Return what decodes some windows faster than GDAL."""
        if self._blocks is None:
            self._blocks = find_blocks(dataset)
        return self._blocks

    def _reflect(self, window: Window, inside: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Fill what lies outside the raster from the mirror image of what lies inside."""
        rows = _mirror(window.row, window.height, self.grid.height)
        columns = _mirror(window.column, window.width, self.grid.width)
        source = Window(int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
        if source.intersection(inside) != source:  # the mirror shows what the window does not
            part_CHW, part_HW = self.read_native(source)
            rows_H1, columns_W = (rows - source.row)[:, None], columns - source.column
            pixels_CHW[:], valid_HW[:] = part_CHW[:, rows_H1, columns_W], part_HW[rows_H1, columns_W]
            return
        outside_W = np.flatnonzero((columns - window.column) != np.arange(window.width))
        outside_H = np.flatnonzero((rows - window.row) != np.arange(window.height))
        for array in (pixels_CHW, valid_HW):
            array[..., outside_W] = array[..., columns[outside_W] - window.column]
            array[..., outside_H, :] = array[..., rows[outside_H] - window.row, :]

    @contextlib.contextmanager
    def _handle(self) -> Iterator[Any]:
        """Lend a file of GDAL that no other thread reads at the same time."""
        with self._lock:
            dataset = self._idle.pop() if self._idle else None
        if dataset is None:
            dataset = open_dataset(self.path, self.field, self._level)
        try:
            yield dataset
        finally:
            with self._lock:
                self._idle.append(dataset)

    def _find_overviews(self) -> dict[int, "Raster"]:
        """Return the overviews whose pixels lie as `Grid.shrink` lays them, by the factor they are shrunk by."""
        found: dict[int, Raster] = {}
        with self._handle() as dataset:
            steps = {number: dataset.overviews(number) for number in self.numbers}
        shared = set.intersection(*map(set, steps.values()))
        for level, factor in enumerate(steps[self.numbers[0]]):
            grid = self.grid.shrink(factor)
            with contextlib.closing(open_dataset(self.path, self.field, level)) as opened:
                if factor not in shared or (opened.height, opened.width) != (grid.height, grid.width):
                    continue
            overview = copy.copy(self)
            overview.grid, overview._level, overview._cells, overview._blocks = grid, level, None, None
            overview._overviews, overview._idle, overview._lock = {}, [], threading.Lock()
            found[factor] = overview
        return found


def check_has_valid_pixels(raster: Raster) -> None:
    """Find a valid pixel, at a few places first, then everywhere.

    Raises:
        UserError: there is none.
    """
    if not any(_any_valid(raster, window) for window in probes(raster.grid.window)) and not any(
        _any_valid(raster, window) for window in _rows(raster.grid)
    ):
        marker = "no valid pixel" if raster.nodata is None else f"no pixel other than nodata ({raster.nodata:g})"
        raise UserError(
            f"'{raster.name}' holds {marker}. Choose another raster under '{control(raster.field)}', or correct its "
            "nodata value in QGIS with 'Translate (convert format)'.",
            raster.field,
        )


def find_problem(dataset: Any, require_crs: bool = True) -> str:
    """Say what makes a file of GDAL unusable, to follow the name of the file; empty when nothing does."""
    if dataset.count == 0 and dataset.subdatasets:
        inner = ", ".join(name.split(":")[-1] for name in dataset.subdatasets[:3])
        return f"holds several rasters ({inner} ...) and none of its own. Choose one of them, as QGIS lists them."
    if dataset.count - (find_alpha(dataset) is not None) == 0:
        return "has no bands. Choose a raster with at least one."
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        return "holds complex numbers. Make a raster of its amplitude first, for instance with 'Raster calculator'."
    transform = dataset.transform
    side = max(abs(transform.a), abs(transform.e))
    if max(abs(transform.b), abs(transform.d)) > 1e-6 * side:
        return "is rotated: its rows do not run from west to east. Straighten it in QGIS with 'Warp (reproject)'."
    if not require_crs:
        return ""
    if dataset.gcps[0] and transform.is_identity:
        return (
            f"has no grid, only {len(dataset.gcps[0])} ground control points. Give it one in QGIS with "
            "'Warp (reproject)'."
        )
    if not dataset.crs:
        return "has no CRS, so its place on the map is unknown. Give it one in QGIS with 'Assign projection'."
    if transform.is_identity:
        return "has a CRS but no georeference. Give it one in QGIS with 'Georeferencer'."
    return ""


def control(field: str) -> str:
    """Return what the form calls a parameter."""
    return field.rpartition(".")[2].replace("_", " ").capitalize()


def short_name(path: str) -> str:
    """Return the part of a path that people know a raster by."""
    return Path(path).name or path


def open_dataset(path: str, field: str, level: int | None = None) -> Any:
    """Open a file with GDAL, or one of its overviews, of which 0 is the finest.

    Raises:
        UserError: it is absent or not a raster.
    """
    if "://" not in path and ":" not in path[2:] and not path.startswith("/vsi") and not Path(path).is_file():
        found = "is a folder" if Path(path).is_dir() else "does not exist"
        raise UserError(f"'{path}' {found}. Choose a raster file under '{control(field)}'.", field)
    try:
        return rasterio.open(path) if level is None else rasterio.open(path, OVERVIEW_LEVEL=level)
    except (RasterioError, OSError) as error:
        raise UserError(
            f"'{short_name(path)}' cannot be read as a raster. Choose a file that QGIS shows as a raster layer, such "
            f"as a GeoTIFF, under '{control(field)}'.",
            field,
        ) from error


def as_float(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return native pixels as float32; what float32 cannot hold is invalid."""
    with np.errstate(over="ignore"):
        found_CHW = pixels_CHW.astype(np.float32, copy=False)
    if pixels_CHW.dtype == np.float64:
        valid_HW = _clear(found_CHW, valid_HW & np.isfinite(found_CHW).all(axis=0))
    return found_CHW, valid_HW


def _clear(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Set invalid pixels to 0, in place, and return the mask."""
    if valid_HW.all():
        return valid_HW
    if pixels_CHW.dtype.kind in "iu":
        np.multiply(pixels_CHW, valid_HW.astype(pixels_CHW.dtype), out=pixels_CHW)  # several times faster
    else:
        np.copyto(pixels_CHW, 0, where=~valid_HW)  # also where it is not finite
    return valid_HW


def _mirror(start: int, count: int, size: int) -> np.ndarray:
    """Return which of `size` pixels appear at start, start + 1 ... when both ends are mirrors."""
    period = max(2 * (size - 1), 1)
    index = np.arange(start, start + count) % period
    return np.minimum(index, period - index) if size > 1 else np.zeros(count, int)


def _any_valid(raster: Raster, window: Window) -> bool:
    return bool(raster.read_native(window)[1].any())


def _rows(grid: Grid, pixels: int = 2**23) -> Iterator[Window]:
    """Cut a grid into bands of whole rows, by 512 where they fit."""
    height = max(min(512, grid.height), 1) if grid.width * 512 <= pixels else 256
    for row in range(0, grid.height, height):
        yield Window(row, 0, height, grid.width).intersection(grid.window)
