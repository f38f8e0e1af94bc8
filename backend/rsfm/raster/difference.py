"""Plain difference of two dates, and whether they differ at all beyond one pixel of misalignment.

Shape letters: C bands, N pixels.
"""

from typing import Literal, NamedTuple

import numpy as np

Verdict = Literal["none", "few", "weak", "differences"]

SHIFT_ROW, SHIFT_COLUMN = 0.8, -0.6
"""One pixel, in the direction in which every date is compared with itself."""
WEAK, DIFFERENT = 0.03, 0.15
"""Shares of pixels above what the shift explains, from which the dates differ weakly, and clearly."""
STRONG = 0.005
"""Share of smoothed pixels far above what the shift explains, from which a few places differ for certain. Measured on
ten images: at most 0.0004 after noise, gain, gamma or half a pixel of shift, at most 0.003 after a whole pixel."""


class MedianDifference(NamedTuple):
    """Length of the difference vector after each date's medians are removed; keeps the weights of the bands."""

    offset_C: np.ndarray

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Compute it, float32, in the unit of the pixels; bands first, then any shape."""
        rest = after - before
        rest -= _as_bands(self.offset_C.astype(np.float32), before)
        return np.asarray(np.sqrt(np.square(rest, out=rest).sum(0)))


class RobustDifference(NamedTuple):
    """Length of the difference vector of dates that are standardised by medians and percentiles (robust CVA)."""

    before: "Robust"
    after: "Robust"

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Compute it, float32, without unit; bands first, then any shape."""
        return _length(self.before.scale(before) - self.after.scale(after))


class Gate(NamedTuple):
    """Whether two dates differ beyond one pixel of misalignment.

    Attributes:
        share: part of the pixels that differ more than a shift by one pixel explains in 95 % of them.
        strong: part of the smoothed pixels that differ more than a shift explains in 99.9 % of them: where little of
            the area changed, but changed clearly.
        verdict: what that means.
    """

    share: float
    strong: float
    verdict: Verdict


def fit_median_difference(before_CN: np.ndarray, after_CN: np.ndarray) -> MedianDifference:
    """Take the medians of every band of both dates."""
    return MedianDifference(np.median(after_CN, axis=1) - np.median(before_CN, axis=1))


def fit_robust_difference(before_CN: np.ndarray, after_CN: np.ndarray) -> RobustDifference:
    """Take medians and percentiles of every band of both dates."""
    return RobustDifference(Robust.of(before_CN), Robust.of(after_CN))


def band_correlations(before_CN: np.ndarray, after_CN: np.ndarray) -> list[float]:
    """Correlate every band with itself on the other date; 0 where a band is constant."""
    found = []
    for before_N, after_N in zip(before_CN, after_CN, strict=True):
        before, after = before_N - before_N.mean(dtype=np.float64), after_N - after_N.mean(dtype=np.float64)
        spread = np.sqrt((before @ before) * (after @ after))
        found.append(float((before @ after) / spread) if spread > 0 else 0.0)
    return found


class Dates(NamedTuple):
    """Both dates at the same pixels, and what lies one pixel beside them, moved; NaN where that is invalid."""

    before_CN: np.ndarray
    after_CN: np.ndarray
    moved_before_CN: np.ndarray
    moved_after_CN: np.ndarray


def measure_gate(plain: Dates, smooth: Dates) -> Gate:
    """Compare the difference of the dates with the difference of each date from itself, moved by one pixel."""
    share, strong = _unexplained(plain, 95), _unexplained(smooth, 99.9)
    if share < WEAK:
        return Gate(share, strong, "few" if strong > STRONG else "none")
    return Gate(share, strong, "weak" if share <= DIFFERENT else "differences")


def _unexplained(dates: Dates, percent: float) -> float:
    """Return the share of pixels that differ more than all but the rest of the pixels do from their neighbours."""
    before, after = Robust.of(dates.before_CN), Robust.of(dates.after_CN)
    limit = max(
        before.self_difference(dates.before_CN, dates.moved_before_CN, percent),
        after.self_difference(dates.after_CN, dates.moved_after_CN, percent),
    )
    return float((_length(before.scale(dates.before_CN) - after.scale(dates.after_CN)) > limit).mean())


class Robust(NamedTuple):
    """Standardisation of a date by medians and percentiles, which differing pixels hardly move."""

    centre_C: np.ndarray
    spread_C: np.ndarray

    @classmethod
    def of(cls, pixels_CN: np.ndarray) -> "Robust":
        low_C, centre_C, high_C = np.percentile(pixels_CN, [2, 50, 98], axis=1).astype(np.float32)
        spread_C = (high_C - low_C) / 2
        deviation_C = pixels_CN.std(axis=1, dtype=np.float64).astype(np.float32)  # for a band that is mostly constant
        spread_C = np.where(spread_C > 0, spread_C, np.where(deviation_C > 0, deviation_C, 1))
        return cls(centre_C, spread_C)

    def scale(self, pixels: np.ndarray) -> np.ndarray:
        """Standardise; bands first, then any shape."""
        return np.asarray((pixels - _as_bands(self.centre_C, pixels)) / _as_bands(self.spread_C, pixels))

    def self_difference(self, pixels_CN: np.ndarray, moved_CN: np.ndarray, percent: float) -> float:
        """Return a percentile of the length of the difference from the moved date; 0 if nothing could move."""
        length_N = _length((moved_CN - pixels_CN) / _as_bands(self.spread_C, pixels_CN))
        length_N = length_N[np.isfinite(length_N)]
        return float(np.percentile(length_N, percent)) if length_N.size else 0.0


def _length(difference: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.square(difference).sum(0)))


def _as_bands(values_C: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return values_C.reshape(-1, *[1] * (pixels.ndim - 1))
