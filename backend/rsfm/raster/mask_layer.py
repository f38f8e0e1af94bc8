"""Reads a raster of clouds, or of anything else to be left out, on the grid of another raster.

Shape letters: H rows, W columns.
"""

import threading
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window as FileWindow

from rsfm.errors import UserError
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import control, open_dataset, short_name
from rsfm.raster.resampled import to_pixels


class MaskLayer:
    """An open raster whose first band tells by its values which pixels are left out; the nearest one decides.

    Threads may share it.
    """

    def __init__(self, path: str, masked: Sequence[int], field: str) -> None:
        """Open a mask.

        Args:
            masked: values that are left out.
            field: the parameter that errors mark.

        Raises:
            UserError: it cannot be opened.
        """
        self.name, self.field = short_name(path), field
        self._dataset, self._masked = open_dataset(path, field), list(masked)
        self._lock = threading.Lock()
        crs = self._dataset.crs or None
        self.grid = Grid(crs, self._dataset.transform, self._dataset.height, self._dataset.width)

    def __enter__(self) -> "MaskLayer":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nobody may be reading."""
        self._dataset.close()

    def left_out(self, grid: Grid, window: Window) -> np.ndarray:
        """Tell which pixels of a window of another grid are left out, left_out_HW; none outside the mask.

        Raises:
            UserError: the file is damaged.
        """
        rows, columns = self._places(grid, window)
        inside = (rows >= 0) & (rows < self.grid.height) & (columns >= 0) & (columns < self.grid.width)
        if not inside.any():
            return np.zeros((window.height, window.width), bool)
        rows, columns = rows.clip(0, self.grid.height - 1), columns.clip(0, self.grid.width - 1)
        row, column = int(rows.min()), int(columns.min())
        part = FileWindow(column, row, int(columns.max()) - column + 1, int(rows.max()) - row + 1)
        try:
            with self._lock:
                values_HW = self._dataset.read(1, window=part)
        except (RasterioError, OSError) as error:
            raise UserError(
                f"The mask '{self.name}' is damaged near row {row}, column {column}. Copy or download the file again, "
                f"or take the mask out of the collection under '{control(self.field)}'.",
                self.field,
            ) from error
        left_out_HW = np.isin(values_HW, self._masked)[rows - row, columns - column] & inside
        return np.broadcast_to(left_out_HW, (window.height, window.width))

    def _places(self, grid: Grid, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns of the mask under the centres of pixels; rows_H1, columns_1W in the same CRS."""
        rows_H1 = np.arange(window.row, window.row + window.height)[:, None] + 0.5
        columns_1W = np.arange(window.column, window.column + window.width)[None] + 0.5
        if grid.crs == self.grid.crs or grid.crs is None or self.grid.crs is None:
            same = grid._replace(crs=None), self.grid._replace(crs=None)
            rows_H1, _ = to_pixels(*same, rows_H1, np.zeros_like(rows_H1))
            _, columns_1W = to_pixels(*same, np.zeros_like(columns_1W), columns_1W)
            return np.floor(rows_H1).astype(np.int64), np.floor(columns_1W).astype(np.int64)
        rows_HW, columns_HW = to_pixels(grid, self.grid, *np.broadcast_arrays(rows_H1, columns_1W))
        return np.floor(rows_HW).astype(np.int64), np.floor(columns_HW).astype(np.int64)
