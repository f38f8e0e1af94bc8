"""A raster as a model of a collection reads it: the bands it learned from, by name, scaled as they were.

Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Sequence

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.band_names import band_numbers
from rsfm.raster.collection import Entry
from rsfm.raster.collection_source import entry_of
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, control
from rsfm.raster.scaling import to_units


class InUnits(Raster):
    """Some bands of a raster, in units (stored * scale + offset, decibels where radar is linear)."""

    def __init__(self, raster: Raster, entry: Entry, channels: Sequence[int], names: Sequence[str]) -> None:
        """Show a raster, which is closed with this one.

        Args:
            entry: says what the pixels mean.
            channels: which of its bands, from 0; names: what they are called.
        """
        self.raster, self.entry, self._channels = raster, entry, list(channels)
        self.path, self.name, self.field, self.grid = raster.path, raster.name, raster.field, raster.grid
        self.bands, self.band_names = len(self._channels), tuple(names)
        self.numbers = [raster.numbers[channel] for channel in self._channels]
        self.dtype, self.nodata, self.block = np.dtype(np.float32), None, raster.block

    def close(self) -> None:
        self.raster.close()

    def release(self) -> None:
        self.raster.release()

    def cells(self) -> None:
        """Return None: a window is scaled as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        found_CHW, found_HW = self.raster.read_native(window)
        pixels_CHW[:], valid_HW[:] = to_units(found_CHW[self._channels], found_HW, self.entry, self.band_names)


def in_units(raster: Raster, names: Sequence[str]) -> Raster:
    """Show the bands of these names in units; where the names are not known, as many bands in their order.

    Raises:
        UserError: bands are missing.
    """
    entry, known = entry_of(raster), list(raster.numbers)
    numbers = [number if number in known else None for number in band_numbers(entry, names)]
    missing = [name for name, number in zip(names, numbers, strict=True) if number is None]
    if missing and len(known) != len(names):
        raise UserError(
            f"'{raster.name}' has the bands {', '.join(raster.band_names)}, and the model needs {', '.join(missing)} "
            f"too. Choose another raster under '{control(raster.field)}', or name its bands as the model does.",
            raster.field,
        )
    channels = range(len(names)) if missing else [known.index(number) for number in numbers if number is not None]
    return InUnits(raster, entry, list(channels), names)
