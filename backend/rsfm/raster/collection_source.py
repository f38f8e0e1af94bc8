"""A raster of a collection under one name, "COLLECTION|RASTER", read as the collection says.

Shape letters: C bands, H rows, W columns.
"""

from pathlib import Path

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.collection import SUFFIX, Entry, load
from rsfm.raster.describing import describe_raster
from rsfm.raster.grid import Window
from rsfm.raster.mask_layer import MaskLayer
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.validity import nodata_marker

MARK = f"{SUFFIX}|"


def source_name(collection: str, entry: Entry) -> str:
    """Name a raster of a collection."""
    return f"{collection}|{entry.path}"


def find_entry(source: str, field: str = "raster") -> Entry | None:
    """Find what a collection says of a raster named by `source_name`; None for any other name.

    Raises:
        UserError: the collection cannot be read, or no longer holds the raster.
    """
    file, mark, path = source.partition(MARK)
    if not mark:
        return None
    collection = file + SUFFIX
    for entry in load(collection, field).entries:
        if entry.path == path:
            return entry
    raise UserError(f"'{Path(path).name}' is no longer in the collection '{Path(collection).name}'.", field)


def open_source(source: str, field: str = "raster") -> Raster:
    """Open a raster that can be used: a file, or one of a collection.

    Raises:
        UserError: in one sentence, what is wrong and what to do.
    """
    entry = find_entry(source, field)
    return open_raster(source, field) if entry is None else CollectionRaster(entry, field)


def entry_of(raster: Raster) -> Entry:
    """Return what is known of an open raster: what its collection says, or else what its file does."""
    entry = getattr(raster, "entry", None)
    return entry if isinstance(entry, Entry) else describe_raster(raster.path)


class CollectionRaster(Raster):
    """The entry's bands as stored, invalid also where its nodata and its mask say so."""

    def __init__(self, entry: Entry, field: str) -> None:
        self.entry, self.path, self.field = entry, entry.path, field
        numbers = tuple(band.number for band in entry.bands)
        self._raster = open_raster(entry.path, field, numbers=numbers or None)
        self.name, self.grid, self.block, self.dtype = (
            self._raster.name, self._raster.grid, self._raster.block, self._raster.dtype,
        )  # fmt: skip
        self.numbers, self.bands, self.nodata = self._raster.numbers, self._raster.bands, entry.nodata
        self.band_names = tuple(band.name for band in entry.bands) or self._raster.band_names
        try:
            self._mask = MaskLayer(entry.mask, entry.masked, field) if entry.mask and entry.masked else None
        except UserError:
            self._raster.close()
            raise

    def close(self) -> None:
        self._raster.close()
        if self._mask is not None:
            self._mask.close()

    def release(self) -> None:
        self._raster.release()

    def cells(self) -> None:
        """Return None: a window is read as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        pixels_CHW[:], found_HW = self._raster.read_native(window)
        marker = nodata_marker(self.nodata, self.dtype)
        if marker is not None:
            found_HW &= (pixels_CHW != marker).all(axis=0)
        if self._mask is not None:
            found_HW &= ~self._mask.left_out(self.grid, window)
        valid_HW[:] = found_HW
        pixels_CHW[:, ~found_HW] = 0
