"""Where to cut a likeness or a magnitude so that a share of the area is shown: counts that know nothing of tiles.

Shape letters: H rows, W columns, N pixels.
"""

import numpy as np
from scipy.special import expit, logit

BINS, LARGEST = 2**16, 16.0
"""Steps between logits of -16 and 16, beyond which a float32 knows no difference."""
PERCENTS = tuple(round(0.1 * step, 1) for step in range(1, 501))
"""Shares of the area that the slider of a likeness knows."""
ALL_PERCENTS = tuple(round(0.1 * step, 1) for step in range(1, 1001))
"""Those that the slider of a magnitude knows."""
CODE_BITS, DROPPED_BITS = 31, 10
"""Of a float32 without its sign, and how many of these, the lowest, do not count: steps of 1/8192 of a value."""


class ShareCounter:
    """Counts probabilities."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)

    @property
    def valid(self) -> int:
        """How many pixels were counted."""
        return int(self._counts.sum())

    def add(self, code_HW: np.ndarray) -> None:
        """Count the valid pixels of a likeness."""
        probabilities = np.mod(code_HW[np.isfinite(code_HW)], np.float32(1))
        with np.errstate(divide="ignore"):
            places = (logit(probabilities.astype(np.float64)) + LARGEST) * (BINS / (2 * LARGEST))
        self._counts += np.bincount(np.clip(places, 0, BINS - 1).astype(np.int64), minlength=BINS)

    def cuts(self) -> list[float]:
        """Return for each of PERCENTS the probability above which at most that share lies."""
        above = np.cumsum(self._counts[::-1])
        wanted = np.array(PERCENTS) / 100 * max(self.valid, 1)
        bins = np.searchsorted(above, wanted, side="right")
        return [float(cut) for cut in expit(LARGEST - bins * (2 * LARGEST / BINS))]


class MagnitudeCounter:
    """Counts magnitudes, which are 0 or more: the bits of such floats are in the order of their values."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 ** (CODE_BITS - DROPPED_BITS), np.int64)

    def add(self, magnitude_N: np.ndarray) -> None:
        """Count the magnitudes of valid pixels."""
        codes_N = np.abs(magnitude_N, dtype=np.float32).view(np.int32) >> DROPPED_BITS
        found = np.bincount(codes_N)
        self._counts[: len(found)] += found

    def cuts(self) -> list[float]:
        """Return for each of ALL_PERCENTS the magnitude above which at most that share lies."""
        above = np.cumsum(self._counts[::-1])
        wanted = np.array(ALL_PERCENTS) / 100 * max(int(above[-1]), 1)
        bins = len(above) - np.searchsorted(above, wanted, side="right")
        codes = np.maximum((bins << DROPPED_BITS) - 1, 0).astype(np.int32)  # the last one of the step below
        return [float(str(cut)) for cut in codes.view(np.float32)]


def cut_at(cuts: list[float], percent: float) -> float:
    """Return the cut of the share nearest to one asked for."""
    return cuts[int(np.abs(np.array(PERCENTS) - percent).argmin())]


def shown(code_HW: np.ndarray, cut: float) -> np.ndarray:
    """Return numbers_HW of kinds from 1 where a change of any kind is likelier than the cut; else 0."""
    valid_HW = np.isfinite(code_HW)
    whole_HW = np.floor(np.where(valid_HW, code_HW, 0))
    above_HW = valid_HW & (code_HW - whole_HW > np.float32(cut))
    return np.where(above_HW, whole_HW + 1, 0).astype(np.uint8)
