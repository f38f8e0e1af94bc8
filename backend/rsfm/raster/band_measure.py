"""Measures one band: the range to which it is clipped, mean and deviation, and how far they may be off.

From pixels in memory, or from how often each value occurs.

Shape letters: N pixels, B blocks of them, V distinct values.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.01, 0.99
"""Shares of the pixels below the percentiles that make the range."""
FAR = 3
"""Standard errors to which the share below a percentile is followed, to find the error of its value."""


class Errors(NamedTuple):
    """Standard errors of a band's numbers; the truth lies within three of them."""

    mean: float = 0.0
    std: float = 0.0
    low: float = 0.0
    high: float = 0.0


class BandMeasure(NamedTuple):
    """What is known of a band.

    Attributes:
        first, last: its percentiles 1 and 99.
        low, high: the range it is clipped to: from the first to the last, widened by half on both sides.
        mean, std: of the clipped pixels.
    """

    first: float
    last: float
    low: float
    high: float
    mean: float
    std: float
    errors: Errors = Errors()

    @property
    def deviation(self) -> float:
        """What to divide by: 1 for a constant band."""
        return self.std if self.high > self.low and self.std > 0 else 1.0


def measure_pixels(pixels_N: NDArray[Any]) -> BandMeasure:
    """Measure a band whose pixels lie in memory."""
    first, last = (float(value) for value in np.percentile(pixels_N, (100 * LOW, 100 * HIGH)))
    low, high = _widen(first, last, pixels_N)
    clipped_N = np.clip(pixels_N, low, high)
    mean, std = float(clipped_N.mean(dtype=np.float64)), float(clipped_N.std(dtype=np.float64))
    return BandMeasure(first, last, low, high, mean, std)


def measure_counts(value_V: NDArray[np.float64], count_V: NDArray[np.int64]) -> BandMeasure:
    """Measure a band by how often each value occurs, as exactly as from the pixels themselves."""
    order = np.argsort(value_V[count_V > 0])
    value_V, count_V = value_V[count_V > 0][order], count_V[count_V > 0][order]
    end_V = np.cumsum(count_V)
    first, last = (_percentile(value_V, end_V, share) for share in (LOW, HIGH))
    low, high = _widen(first, last, value_V)
    clipped_V, total = np.clip(value_V, low, high), int(end_V[-1])
    shift = clipped_V[int(np.searchsorted(end_V, total // 2, "right"))]
    mean = float(shift + (clipped_V - shift) @ count_V / total)
    std = float(np.sqrt(np.square(clipped_V - mean) @ count_V / total))
    return BandMeasure(first, last, low, high, mean, std)


def sampling_errors(pixels_N: NDArray[Any], sizes_B: NDArray[np.int64], found: BandMeasure, unseen: float) -> Errors:
    """Estimate standard errors from how much the blocks of a sample differ.

    Ratio estimates, linearised; the variance comes from differences of successive blocks, which counts what a sample
    spread evenly gains (Wolter, Introduction to Variance Estimation, 2007, chapters 6 and 8). The error of a
    percentile is that of the share of pixels below it, read off the values (Woodruff, 1952).

    Args:
        pixels_N: of one block after the other.
        sizes_B: pixels of each block, in the order in which they lie in the rasters; 0 where all are nodata.
        unseen: share of the pixels that was not looked at.
    """
    first, last = (_percentile_error(pixels_N, sizes_B, share, unseen) for share in (LOW, HIGH))
    low, high = 1.5 * first + 0.5 * last, 0.5 * first + 1.5 * last
    if found.first == found.last and found.high > found.low:  # the range is that of the extremes, which may be missed
        low = high = (found.high - found.low) * bool(unseen)
    deviation_N = np.clip(pixels_N, found.low, found.high).astype(np.float64) - found.mean
    mean = _error_of_mean(deviation_N, sizes_B, unseen)
    variance = _error_of_mean(np.square(deviation_N) - found.std**2, sizes_B, unseen)
    below, above = float(np.mean(pixels_N < found.low)), float(np.mean(pixels_N > found.high))
    mean += below * low + above * high
    if found.std == 0:
        return Errors(mean, 0.0, low, high)
    pulled = below * low * (found.mean - found.low) + above * high * (found.high - found.mean)
    return Errors(mean, variance / (2 * found.std) + pulled / found.std, low, high)


def _widen(first: float, last: float, values: NDArray[Any]) -> tuple[float, float]:
    if first == last:  # nearly constant: the few other pixels are all there is to see
        first, last = float(values.min()), float(values.max())
    return first - (last - first) / 2, last + (last - first) / 2


def _percentile(value_V: NDArray[np.float64], end_V: NDArray[np.int64], share: float) -> float:
    """Interpolate between the two pixels around a share of all, as numpy.percentile does."""
    rank = share * (int(end_V[-1]) - 1)
    before = int(rank)
    after = min(before + 1, int(end_V[-1]) - 1)
    low, high = (value_V[int(np.searchsorted(end_V, place, "right"))] for place in (before, after))
    return float(low + (rank - before) * (high - low))


def _percentile_error(pixels_N: NDArray[Any], sizes_B: NDArray[np.int64], share: float, unseen: float) -> float:
    value = np.quantile(pixels_N, share)
    off = FAR * _error_of_mean((pixels_N <= value) - float(np.mean(pixels_N <= value)), sizes_B, unseen)
    ends = np.quantile(pixels_N, (max(share - off, 0), min(share + off, 1)))
    return float(max(value - ends[0], ends[1] - value)) / FAR


def _error_of_mean(centred_N: NDArray[np.float64], sizes_B: NDArray[np.int64], unseen: float) -> float:
    """Return the standard error of the mean of pixels from which their mean was subtracted."""
    if len(sizes_B) < 2 or unseen <= 0:
        return 0.0
    sum_N = np.concatenate([[0.0], np.cumsum(centred_N)])
    total_B = np.diff(sum_N[np.concatenate([[0], np.cumsum(sizes_B)])])
    spread = float(np.square(np.diff(total_B)).mean()) / 2
    return float(np.sqrt(unseen * len(sizes_B) * spread)) / len(centred_N)
