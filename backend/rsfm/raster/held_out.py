"""Blocks of the ground that are held out: the same ones for every raster, date and CRS.

The sphere is cut into rows of equal height, and each row into blocks about as wide as they are high.
Shape letters: P points, Q blocks.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

METRES_OF_A_DEGREE = 111_320.0

Box = tuple[float, float, float, float]


class HeldOut:
    """Decides by the seed alone whether a block is held out; with a share of 0 none is."""

    def __init__(self, share: float, block_metres: float, seed: int) -> None:
        self.share, self.seed = share, seed
        self._height = block_metres / METRES_OF_A_DEGREE

    def touches(self, box: Box) -> bool:
        """Tell whether a box in degrees touches a block that is held out."""
        return self.share > 0 and any(self._is_held(*block) for block in self._blocks(box))

    def covers(self, box: Box) -> bool:
        """Tell whether a box lies in held-out blocks as a whole."""
        return self.share > 0 and all(self._is_held(*block) for block in self._blocks(box))

    def holds(self, longitude_P: NDArray[np.float64], latitude_P: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which points, in finite degrees, lie in blocks that are held out."""
        if self.share <= 0:
            return np.zeros(longitude_P.shape, bool)
        row_P = np.floor(latitude_P / self._height).astype(np.int64)
        blocks_P2 = np.stack([row_P, np.zeros_like(row_P)], 1)
        for row in np.unique(row_P):
            here_P, count = row_P == row, self._blocks_of_row(int(row))
            blocks_P2[here_P, 1] = np.floor(longitude_P[here_P] * count / 360).astype(np.int64) % count
        every_Q2, number_P = np.unique(blocks_P2, axis=0, return_inverse=True)
        held_Q = np.array([self._is_held(int(row), int(column)) for row, column in every_Q2], bool)
        return held_Q[number_P.reshape(-1)]

    def _blocks(self, box: Box) -> list[tuple[int, int]]:
        """Return row and column of the blocks that a box touches."""
        west, south, east, north = box
        found = []
        for row in range(math.floor(south / self._height), math.floor(north / self._height) + 1):
            count = self._blocks_of_row(row)
            first, last = math.floor(west * count / 360), math.floor(east * count / 360)
            found += [(row, column % count) for column in range(first, min(last, first + count - 1) + 1)]
        return found

    def _blocks_of_row(self, row: int) -> int:
        middle = math.radians(min(abs((row + 0.5) * self._height), 90))
        return max(1, math.floor(360 * math.cos(middle) / self._height))

    def _is_held(self, row: int, column: int) -> bool:
        digest = hashlib.blake2b(f"{self.seed} {row} {column}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.share * 2**64
