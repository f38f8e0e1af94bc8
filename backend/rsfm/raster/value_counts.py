"""Counts the values that small integers take, which is all that percentiles, mean and deviation depend on.

Shape letters: C bands, H rows, W columns, N pixels, V values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.collection import Entry
from rsfm.raster.scaling import to_units


class ValueCounts:
    """How often each stored value occurs in each band of rasters of one kind."""

    def __init__(self, entry: Entry, bands: Sequence[str], dtype: np.dtype[Any]) -> None:
        """Start at 0.

        Args:
            entry: one of these rasters, which tells their scaling.
            bands: names of the bands.
            dtype: of the rasters, an integer of 8 or 16 bits.
        """
        self._entry = entry.model_copy(update={"nodata": None})  # not theirs alone, and never counted
        self._bands, self._dtype = bands, dtype
        self._least = int(np.iinfo(dtype).min)
        self._count_CV = np.zeros((len(bands), 1 << 8 * dtype.itemsize), np.int64)

    def add(self, pixels_CHW: NDArray[Any], valid_HW: NDArray[np.bool_]) -> None:
        all_valid = bool(valid_HW.all())
        for count_V, pixels_HW in zip(self._count_CV, pixels_CHW, strict=True):
            pixels_N = pixels_HW.ravel() if all_valid else pixels_HW[valid_HW]
            if self._least:
                pixels_N = pixels_N.astype(np.intp) - self._least
            found_V = np.bincount(pixels_N)
            count_V[: len(found_V)] += found_V

    @property
    def total(self) -> int:
        """Valid pixels."""
        return int(self._count_CV[0].sum())

    def in_units(self, channel: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the values of a band that occur, value_V, and how often, count_V."""
        count_V = self._count_CV[channel]
        stored_V = np.flatnonzero(count_V)
        pixels_11V = (stored_V + self._least).astype(self._dtype)[None, None]
        valid_1V = np.ones((1, stored_V.size), bool)
        value_11V, _ = to_units(pixels_11V, valid_1V, self._entry, [self._bands[channel]])
        return value_11V[0, 0].astype(np.float64), count_V[stored_V]
