"""Finds which of several outputs is the largest: comparing one after the other is many times as fast as argmax.

Shape letters: K outputs, H rows, W columns.
"""

import numpy as np
from numpy.typing import NDArray


def find_largest(
    rows_KHW: NDArray[np.float32], valid_HW: NDArray[np.bool_], nodata: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the number of the largest output, from 1, the first of equals, `nodata` where invalid; and its value."""
    number_HW, larger_HW = np.ones(valid_HW.shape, np.uint8), np.empty(valid_HW.shape, np.bool_)
    largest_HW, flag_HW = rows_KHW[0], larger_HW.view(np.uint8)
    for number, output_HW in enumerate(rows_KHW[1:], start=2):
        np.greater(output_HW, largest_HW, out=larger_HW)
        np.multiply(flag_HW, np.uint8(number), out=flag_HW)
        np.maximum(number_HW, flag_HW, out=number_HW)  # a later number is a higher one
        largest_HW = np.maximum(largest_HW, output_HW, out=None if number == 2 else largest_HW)
    if not valid_HW.all():
        np.copyto(number_HW, nodata, where=~valid_HW)
    return number_HW, largest_HW if len(rows_KHW) > 1 else largest_HW.copy()
