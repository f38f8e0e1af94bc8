"""What is classified as a whole: the polygons of a layer, or square tiles. Members share no base, only this shape.

Shape letters: N objects, M pairs of a pixel and an object that it belongs to.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.area import Area
from rsfm.raster.grid import Window

Indices = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pixels and the objects that they belong to, by row; a pixel of two objects is there twice."""

    row_M: Indices
    column_M: Indices
    object_M: Indices


class Objects(Protocol):
    """Parts of a raster that are classified as wholes.

    Attributes:
        end_N: the row after the last that may hold a pixel of each.
        area: all of them together.
    """

    end_N: Indices
    area: Area

    def find(self, window: Window) -> Pairs:
        """Find the pixels of objects in a window of the raster."""
