"""What makes a window worth learning from.

Shape letters: C bands, H rows, W columns, N valid pixels.
"""

from typing import Literal

import numpy as np

FLAT = 0.98
"""Share of the valid pixels that hold the same value, in every band, in a window that shows nothing."""

Reason = Literal["", "nodata", "cloud", "flat"]


def judge(
    pixels_CHW: np.ndarray,
    valid_HW: np.ndarray,
    cloudy_HW: np.ndarray,
    max_invalid: float,
    max_cloud: float,
    skip_flat: bool,
) -> Reason:
    """Say why a window is refused; empty if it is not.

    Args:
        valid_HW: False where nodata and where cloudy.
        max_invalid, max_cloud: shares of the whole window that may be nodata, and cloudy.
    """
    if (~valid_HW & ~cloudy_HW).mean() > max_invalid:
        return "nodata"
    if cloudy_HW.mean() > max_cloud or not valid_HW.any():
        return "cloud"
    return "flat" if skip_flat and is_flat(pixels_CHW, valid_HW) else ""


def is_flat(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> bool:
    """Tell whether nearly all valid pixels hold one value in every band."""
    for band_HW in pixels_CHW:
        values_N = band_HW[valid_HW]
        middle = np.partition(values_N, len(values_N) // 2)[len(values_N) // 2]
        if (values_N == middle).mean() < FLAT:
            return False
    return True
