"""Reads the pixels of an entry of a collection, as the file stores them.

Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.collection import Entry
from rsfm.raster.grid import Window
from rsfm.raster.mask_layer import MaskLayer
from rsfm.raster.reader import Raster, control, open_raster, short_name


class EntryReader:
    """An open entry: its bands, valid where file and mask say so.

    Attributes:
        bands: names of the bands that are read, in order.
    """

    def __init__(self, entry: Entry, raster: Raster, mask: MaskLayer | None, bands: Sequence[str]) -> None:
        """Read from a raster and its mask, which their owner closes; no names are all bands of the file in order.

        Raises:
            UserError: a band is not there.
        """
        self.entry, self.raster, self._mask = entry, raster, mask
        names = {band.number: band.name for band in entry.bands}
        self.bands = tuple(bands) or tuple(names.get(number, "") for number in raster.numbers)
        channels = find_channels(entry, raster, bands) if bands else list(range(raster.bands))
        self._channels = None if channels == list(range(raster.bands)) else channels

    def read_native(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read pixels_CHW in the file's own type, 0 where a band is invalid, and valid_HW.

        Raises:
            UserError: the raster or its mask is damaged.
        """
        pixels_CHW, valid_HW = self.raster.read_native(window)
        if self._mask is not None:
            valid_HW = valid_HW & ~self._mask.left_out(self.raster.grid, window)
        return (pixels_CHW if self._channels is None else pixels_CHW[self._channels]), valid_HW


@contextmanager
def open_entry(entry: Entry, bands: Sequence[str], field: str = "rasters") -> Iterator[EntryReader]:
    """Open the raster of an entry and its mask.

    Args:
        bands: names of the bands wanted, in order; none are all of them, as the file has them.

    Raises:
        UserError: one of the files cannot be used, or a band is not there.
    """
    with ExitStack() as stack:
        raster = stack.enter_context(open_raster(entry.path, field, require_crs=False))
        mask = None
        if entry.mask and entry.masked:
            mask = stack.enter_context(MaskLayer(entry.mask, entry.masked, field))
        yield EntryReader(entry, raster, mask, bands)


def find_channels(entry: Entry, raster: Raster, bands: Sequence[str]) -> list[int]:
    """Return where bands lie among those that the raster reads.

    Raises:
        UserError: a band is not there.
    """
    numbers = {band.name: band.number for band in entry.bands}
    missing = [name for name in bands if numbers.get(name) not in raster.numbers]
    if missing:
        raise UserError(
            f"'{short_name(entry.path)}' has no band {', '.join(missing)}; it has {', '.join(numbers) or 'none'}. "
            f"Correct the names in the collection, or leave this raster out, under '{control(raster.field)}'.",
            raster.field,
        )
    return [raster.numbers.index(numbers[name]) for name in bands]
