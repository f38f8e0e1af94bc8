"""What a model says of polygons or tiles.

Shape letters: N objects, K classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answers(NamedTuple):
    """What is known of each object.

    Attributes:
        probability_NK: not a number where there is no valid pixel.
        pixels_N: on the raster; valid_N: how many of them are valid.
    """

    probability_NK: NDArray[np.float32]
    pixels_N: NDArray[np.int64]
    valid_N: NDArray[np.int64]

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """Which objects have a class."""
        return self.valid_N > 0

    @property
    def class_N(self) -> NDArray[np.int64]:
        """The most probable class, from 0; the first where there is none."""
        return np.asarray(np.nan_to_num(self.probability_NK).argmax(axis=1))

    @property
    def confidence_N(self) -> NDArray[np.float32]:
        """The probability of that class; not a number where there is none."""
        return np.asarray(self.probability_NK.max(axis=1))

    def valid_share(self, beyond_N: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return which part of each object is valid; `beyond_N` are its pixels beyond the raster's edge."""
        return np.asarray(self.valid_N / np.maximum(self.pixels_N + beyond_N, 1))


def no_answers(count: int, classes: int) -> Answers:
    """Return what is known before anything is asked."""
    nothing_NK = np.full((count, classes), np.nan, np.float32)
    return Answers(nothing_NK, np.zeros(count, np.int64), np.zeros(count, np.int64))
