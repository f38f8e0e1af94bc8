"""A raster without what a mask leaves out, such as clouds.

Shape letters: C bands, H rows, W columns.
"""

from collections.abc import Hashable

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.mask_layer import MaskLayer
from rsfm.raster.probe import look
from rsfm.raster.reader import Raster, open_dataset
from rsfm.raster.roles import find_masked

BYTES = range(1, 256)


class Masked(Raster):
    """A raster whose pixels are invalid where a mask says so; closing it closes the mask, not the raster.

    Who gives it another grid moves both.
    """

    def __init__(self, raster: Raster, mask: MaskLayer) -> None:
        self.raster, self.mask = raster, mask
        self.path, self.name, self.field, self.grid = raster.path, raster.name, raster.field, raster.grid
        self.bands, self.band_names, self.numbers = raster.bands, raster.band_names, raster.numbers
        self.dtype, self.nodata, self.block = raster.dtype, raster.nodata, raster.block

    @property
    def key(self) -> Hashable:
        return self.raster.key, self.mask.name

    def close(self) -> None:
        self.mask.close()

    def release(self) -> None:
        self.raster.release()

    def cells(self) -> None:
        """Return None: a window is read as a whole."""

    def overview(self, factor: int) -> tuple[Raster, int]:
        return self, factor

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        found_CHW, found_HW = self.raster.read_native(window)
        valid_HW[:] = found_HW & ~self.mask.left_out(self.raster.grid, window)
        pixels_CHW[:] = found_CHW * valid_HW


def open_mask(path: str, values: str, field: str) -> MaskLayer:
    """Open a mask.

    Args:
        values: that are left out, "3, 8, 9"; empty is what the name tells, such as SCL, or all but 0.

    Raises:
        UserError: it cannot be opened, or the values are no whole numbers.
    """
    return MaskLayer(path, parse_values(values) or _usual(path, field), field)


def parse_values(values: str) -> list[int]:
    """Read whole numbers that commas separate.

    Raises:
        UserError: something else stands there.
    """
    try:
        return [int(part) for part in values.replace(";", ",").split(",") if part.strip()]
    except ValueError as error:
        raise UserError(
            f"'{values}' under 'Mask values' was not understood. Give whole numbers with commas between them, such as "
            "3, 8, 9, or leave it empty.",
            "mask_values",
        ) from error


def _usual(path: str, field: str) -> list[int]:
    with open_dataset(path, field) as dataset:
        found = find_masked(path, look(path, dataset).values)
    return list(found) or list(BYTES)
