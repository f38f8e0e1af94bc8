"""The scale of an axis: where numbers lie on it, and the round ones that are written beside it. No Qt."""

from __future__ import annotations

import math
from typing import NamedTuple

DECADES = 1.3
"""A range of more powers of ten than this is drawn by its logarithm."""


class Axis(NamedTuple):
    """A range of numbers, low < high; both above 0 where it is logarithmic; marks may be wanted at whole numbers."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    def share(self, value: float) -> float:
        """Tell where a number lies, from 0 at the low end to 1."""
        if self.is_log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Return round numbers within the range, at most so many: 1, 2 and 5 times powers of ten."""
        if self.is_log:
            return self._log_ticks(most)
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / max(most, 1)))
        step = max(step, 1) if self.is_whole else step
        for factor in (1, 2, 5, 10, 20):
            first = math.ceil(self.low / (step * factor) - 1e-9)
            last = math.floor(self.high / (step * factor) + 1e-9)
            if last - first < most:
                return [number * step * factor for number in range(first, last + 1)]
        return []

    def _log_ticks(self, most: int) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [factor * 10.0**power for power in powers for factor in factors]
            found = [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
            if len(found) <= most:
                return found
        return found[:: -(-len(found) // max(most, 1))]


def value_axis(values: list[float]) -> Axis:
    """Make the axis of some numbers, at least one: logarithmic where they span decades, with a little room."""
    low, high = min(values), max(values)
    if low > 0 and math.log10(high / low) > DECADES:
        return Axis(low * 0.9, high * 1.1, True)
    room = (high - low) * 0.06 or max(abs(high) * 0.1, 0.1)
    return Axis(low - room, high + room)


def score_axis(values: list[float]) -> Axis:
    """Make the axis of scores from 0 to 1: tenths that enclose them, two at least."""
    low, high = math.floor(min(values) * 10 + 1e-9) / 10, math.ceil(max(values) * 10 - 1e-9) / 10
    if high - low < 0.2 - 1e-9:
        low, high = max(high - 0.2, 0), max(high, 0.2)
    return Axis(round(low, 1), round(high, 1))


def write(value: float, axis: Axis | None = None) -> str:
    """Write a number with as many digits as it needs, beside an axis as its ticks need."""
    if axis is not None and not axis.is_log:
        digits = max(0, 1 - math.floor(math.log10(axis.high - axis.low) + 1e-9))
        if axis.high - axis.low > 1e-4 and abs(value) < 1e5:
            text = f"{value:,.{min(digits, 4)}f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3g}"
