"""Holds pixels of blocks in bounded memory, each of them with the same chance.

Shape letters: C bands, H rows, W columns, N pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfm.raster.statistics import ENOUGH_PIXELS, Statistics, measure_parts

FEWEST_FILLED = 30
"""Blocks with valid pixels, below which a sample goes on growing."""


class PixelSample:
    """The valid pixels of blocks, of which every second one is given up whenever they become too many."""

    def __init__(self, limit: int, seed: int) -> None:
        """Hold none yet, and never more than `limit` of them."""
        self.parts_CN: list[NDArray[np.float32]] = []
        self.valid = self.seen = 0
        self._limit, self._step, self._random = limit, 1, np.random.default_rng((seed, 1))

    def add(self, pixels_CHW: NDArray[np.float32], valid_HW: NDArray[np.bool_]) -> None:
        kept_N = self._thin(np.flatnonzero(valid_HW), self._step)
        self.parts_CN.append(pixels_CHW.reshape(len(pixels_CHW), -1)[:, kept_N])
        self.seen += valid_HW.size
        self.valid += kept_N.size
        while self.valid > self._limit:
            self._step *= 2
            self.parts_CN = [np.ascontiguousarray(self._thin(part_CN, 2)) for part_CN in self.parts_CN]
            self.valid = sum(part_CN.shape[1] for part_CN in self.parts_CN)

    @property
    def enough(self) -> bool:
        """Whether an error can be told from what is held."""
        filled = sum(part_CN.shape[1] > 0 for part_CN in self.parts_CN)
        return self.valid >= min(ENOUGH_PIXELS, self._limit // 2) and filled >= FEWEST_FILLED

    def measure(self, pixels: int) -> Statistics:
        """Measure what is held of so many pixels."""
        return measure_parts(self.parts_CN, pixels, 1 - self.seen / (self._step * pixels))

    def _thin(self, pixels: NDArray[Any], step: int) -> NDArray[Any]:
        """Keep every step-th pixel from one at random, so that each is kept equally often."""
        return pixels if step == 1 else pixels[..., self._random.integers(step) :: step]
