"""How the numbers of a map are stored: as floats of 32 or 16 bits, or as whole numbers of 8 bits with a scale.

Floats of 16 bits are stored as GDAL's Float32 with NBITS=16, and whole numbers without a sign: GDAL has a type of its
own for these since 3.11 and 3.7 only, and what QGIS 3.22 shows must be the true values.

Shape letters: K bands, H rows, W columns.
"""

from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from rsfm.output import RasterKind

Storage = Literal["float32", "float16", "int8"]
LARGEST_CODE = 127
LARGEST_HALF = np.float32(np.finfo(np.float16).max)
HEADROOM = 1.1
"""The scale reaches beyond the largest value of the sample by this factor."""


class Coding(NamedTuple):
    """Makes of values what is stored.

    Attributes:
        kind: how the file is made.
        steps_K: value of one step of each band; None where floats are stored.
    """

    kind: type[RasterKind]
    steps_K: NDArray[np.float64] | None = None

    def encode(self, values_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> NDArray[Any]:
        """Return what is stored, nodata where invalid; values too large for it become the largest."""
        if self.steps_K is not None:
            codes_KHW = np.rint(values_KHW / self.steps_K.astype(np.float32)[:, None, None])
            codes_KHW = np.clip(codes_KHW, -LARGEST_CODE, LARGEST_CODE) + LARGEST_CODE
            return np.where(valid_HW, codes_KHW, np.float32(self.kind.nodata)).astype(np.uint8)
        if self.kind.bits == 16:
            values_KHW = np.clip(values_KHW, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).astype(np.float32)
        return np.where(valid_HW, values_KHW, np.float32(np.nan))

    @property
    def scaling(self) -> list[tuple[float, float]]:
        """Scale and offset of each band, none for floats."""
        if self.steps_K is None:
            return []
        return [(float(step), -LARGEST_CODE * float(step)) for step in self.steps_K]

    def count_cut(self, codes_KHW: NDArray[Any]) -> int:
        """Count the values that were too large."""
        if self.steps_K is None:
            return 0
        return int(np.count_nonzero((codes_KHW == 0) | (codes_KHW == 2 * LARGEST_CODE)))


def stored_as(kind: type[RasterKind], storage: Storage, largest_K: NDArray[np.float64]) -> Coding:
    """Choose how a map of floats is stored.

    Args:
        kind: of floats of 32 bits.
        largest_K: the largest magnitude of each band, in a sample.
    """
    if storage == "float16":
        return Coding(_changed(kind, bits=16))
    if storage == "int8":
        steps_K = np.where(largest_K > 0, largest_K * HEADROOM / LARGEST_CODE, 1.0)
        return Coding(_changed(kind, dtype="uint8", nodata=255, predictor=2), steps_K)
    return Coding(kind)


def _changed(kind: type[RasterKind], **changes: Any) -> type[RasterKind]:
    return cast("type[RasterKind]", type(kind.__name__, (kind,), changes))
