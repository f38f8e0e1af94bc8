"""What the dates of a series tell of the pixels of a strip, one date after the other.

Shape letters: H rows, W columns of a strip.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rsfm.differences.comparisons import Comparisons
from rsfm.differences.series import Series
from rsfm.raster.grid import Window


class Step(NamedTuple):
    """What one date of a strip shows.

    Attributes:
        number: of the date; 0 is the earliest, which shows nothing.
        compared_HW: where it could be compared with another date.
        changed_HW: where it differs.
        magnitude_HW: float32; 0 where it was not compared, or only with a date that it does not differ from.
    """

    number: int
    compared_HW: np.ndarray
    changed_HW: np.ndarray
    magnitude_HW: np.ndarray


class History:
    """What is known of a strip so far.

    Attributes:
        first_HW: number of the date of the first change; 0 where there was none.
        count_HW: changes.
        largest_HW: the largest magnitude.
        compared_HW: where two dates could be compared.
    """

    def __init__(self, strip: Window) -> None:
        shape = strip.height, strip.width
        self.first_HW, self.count_HW = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        self.largest_HW, self.compared_HW = np.zeros(shape, np.float32), np.zeros(shape, bool)

    def add(self, step: Step) -> None:
        """Take the next date."""
        self.first_HW[step.changed_HW & (self.count_HW == 0)] = step.number
        self.count_HW += step.changed_HW
        np.maximum(self.largest_HW, step.magnitude_HW, out=self.largest_HW)
        self.compared_HW |= step.compared_HW


def each_step(series: Series, comparisons: Comparisons, strip: Window) -> Iterator[Step]:
    """Compare every date of a strip but the first; each pixel with the first reference that has it."""
    valid = [series.valid(0, strip)]
    for number in range(1, len(series.rasters)):
        valid.append(series.valid(number, strip))
        yield _step(number, valid, comparisons, strip)


def _step(number: int, valid: list[np.ndarray], comparisons: Comparisons, strip: Window) -> Step:
    rest_HW = valid[number].copy()
    changed_HW, magnitude_HW = np.zeros_like(rest_HW), np.zeros(rest_HW.shape, np.float32)
    for before in comparisons.references(number):
        here_HW = rest_HW & valid[before]
        comparison = comparisons.of(before, number) if here_HW.any() else None
        if comparison is None:
            continue
        rest_HW &= ~here_HW
        if comparison.threshold is not None:
            found_HW = comparison.magnitude(strip)
            magnitude_HW[here_HW] = found_HW[here_HW]
            changed_HW |= here_HW & (found_HW > np.float32(comparison.threshold))
    return Step(number, valid[number] & ~rest_HW, changed_HW, magnitude_HW)
