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
    size = valid_HW.size
    if size - np.count_nonzero(valid_HW | cloudy_HW) > max_invalid * size:
        return "nodata"
    if np.count_nonzero(cloudy_HW) > max_cloud * size or not valid_HW.any():
        return "cloud"
    return "flat" if skip_flat and is_flat(pixels_CHW, valid_HW) else ""


def is_flat(pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> bool:
    """Tell whether nearly all valid pixels hold one value in every band."""
    everywhere = bool(valid_HW.all())
    return all(_holds_one_value(band_HW.ravel() if everywhere else band_HW[valid_HW]) for band_HW in pixels_CHW)


def _holds_one_value(values_N: np.ndarray) -> bool:
    """Tell whether a value has the share FLAT.

    Such a value fills more than half of any part that is more than twice as long as the rest, so its median tells it.
    """
    part_N = values_N[: 2 * int((1 - FLAT) * len(values_N)) + 2]
    middle = np.partition(part_N, len(part_N) // 2)[len(part_N) // 2]
    return int(np.count_nonzero(values_N == middle)) >= FLAT * len(values_N)
