"""A raster of a collection, as the collection says it is to be read.

Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.grid import Grid, Window
from rsfm.raster.mask_layer import MaskLayer
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.reader import Raster, open_raster, short_name
from rsfm.raster.scaling import to_units


class EntryRaster(Raster):
    """The bands wanted, in units (stored * scale + offset), invalid where nodata, where the mask says so and outside.

    Nothing is opened before the first reading, and files may be closed in between.
    """

    def __init__(
        self,
        entry: Entry,
        files: OpenFiles,
        numbers: tuple[int, ...] | None = None,
        names: Sequence[str] = (),
        field: str = "rasters",
    ) -> None:
        """Show an entry.

        Args:
            files: opens and closes the file.
            numbers: of the bands wanted, from 1; None is all but alpha, and opens the file if the entry does not tell.
            names: of the bands, where they differ from the entry's.
        """
        self.entry, self._open_files, self.wanted = entry, files, numbers
        self.path, self.name, self.field = entry.path, short_name(entry.path), field
        self.grid = entry_grid(entry)
        self.dtype, self.nodata = np.dtype(np.float32), None
        self.band_names = tuple(names or (band.name for band in entry.bands))
        self.numbers = list(numbers or (band.number for band in entry.bands))
        self.bands = len(self.numbers)
        if not self.bands:
            with self.lend() as file:
                self.bands, self.band_names, self.numbers = file.bands, file.band_names, file.numbers

    def close(self) -> None:
        """Do nothing: the files belong to `files`."""

    def release(self) -> None:
        """Do nothing: `files` closes what is open."""

    def cells(self) -> None:
        """Return None: a window is scaled and masked as a whole."""

    def lend(self) -> AbstractContextManager[Raster]:
        """Lend the file itself, whose pixels are as stored; it stays open while it is lent."""
        return self._open_files.use((self.path, self.wanted), self._open)

    @property
    def masked(self) -> bool:
        """Tell whether a mask says that pixels are to be left out."""
        return bool(self.entry.mask and self.entry.masked)

    def cloudy(self, grid: Grid, window: Window) -> np.ndarray:
        """Tell which pixels of a window of any grid are to be left out by the entry's mask, cloudy_HW."""
        mask, masked = self.entry.mask, self.entry.masked
        if not mask or not masked:
            return np.zeros((window.height, window.width), bool)
        with self._open_files.use((mask, masked), lambda: MaskLayer(mask, masked, self.field)) as layer:
            return layer.left_out(grid, window)

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        with self.lend() as file:
            stored_CHW, stored_HW = file.read_native(window)
        pixels_CHW[:], valid_HW[:] = self.in_units(stored_CHW, stored_HW & ~self.cloudy(self.grid, window))

    def in_units(self, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn what the file stores into what is learned from; further axes may come first."""
        return to_units(pixels_CHW, valid_HW, self.entry, self.band_names)

    def _open(self) -> Raster:
        raster = open_raster(self.path, self.field, self.entry.crs != "", self.wanted)
        found, expected = (raster.grid.height, raster.grid.width), (self.entry.height, self.entry.width)
        if found != expected:
            raster.close()
            raise UserError(
                f"'{self.name}' is {found[0]} x {found[1]} px, and was {expected[0]} x {expected[1]} px when the "
                "collection was made. Make the collection again on the page Imagery.",
                self.field,
            )
        return raster


def entry_grid(entry: Entry) -> Grid:
    """Return where an entry's pixels lie; the file is not opened."""
    return Grid(_parse_crs(entry.crs), Affine(*entry.transform), entry.height, entry.width)


@lru_cache(maxsize=256)
def _parse_crs(crs: str) -> CRS | None:
    return CRS.from_string(crs) if crs else None
