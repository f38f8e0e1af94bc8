"""Deep change vector analysis: channels of a network that differ most between two dates, and how far they are apart.

Saha, Bovolo and Bruzzone, 2019, "Unsupervised Deep Change Vector Analysis for Multiple-Change Detection in VHR Images",
IEEE Transactions on Geoscience and Remote Sensing 57(6). Comparisons follow the authors' own numbers.

Shape letters: D channels of a layer, K channels kept, N pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHARES = (0.10, 0.10, 0.05)
"""Share of the channels of a layer that each quarter of the area keeps, from the earliest layer on."""
SATURATED = 5
"""Percent of the largest values of a channel that count alike."""


class Vectors(NamedTuple):
    """How the channels of each date are brought to 0..1.

    Attributes:
        mean_before_K, mean_after_K, factor_before_K, factor_after_K: standardise the channels.
        low_before_K ... range_after_K: least standardised value, and what lies from there to where it saturates.
    """

    mean_before_K: np.ndarray
    mean_after_K: np.ndarray
    factor_before_K: np.ndarray
    factor_after_K: np.ndarray
    low_before_K: np.ndarray
    low_after_K: np.ndarray
    range_before_K: np.ndarray
    range_after_K: np.ndarray

    def magnitude(self, before_KN: np.ndarray, after_KN: np.ndarray) -> np.ndarray:
        """Return the length of the difference of the scaled channels."""
        gains, offsets = self.scaling()
        scaled = [
            np.clip(pixels_KN * gain_K[:, None] + offset_K[:, None], 0, 1)
            for pixels_KN, gain_K, offset_K in zip((before_KN, after_KN), gains, offsets, strict=True)
        ]
        return np.asarray(np.sqrt(np.square(scaled[0] - scaled[1]).sum(0)))

    def scaling(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return what each date's channels are multiplied with, and what is added then; the rest is cut at 0 and 1."""
        gains, offsets = [], []
        for mean_K, factor_K, low_K, range_K in (
            (self.mean_before_K, self.factor_before_K, self.low_before_K, self.range_before_K),
            (self.mean_after_K, self.factor_after_K, self.low_after_K, self.range_after_K),
        ):
            share_K = np.where(range_K > 0, 1 / np.where(range_K > 0, range_K, 1), 0)
            gains.append(factor_K * share_K)
            offsets.append(-(mean_K * factor_K + low_K) * share_K)
        return gains, offsets


def strongest(quarters: Sequence[np.ndarray], share: float) -> np.ndarray:
    """Return which channels differ most, by the deviation of their difference, in any of the quarters of an area.

    Args:
        quarters: difference_DN of each; those without pixels choose nothing.
        share: of the channels that a quarter chooses.
    """
    found: set[int] = set()
    for difference_DN in quarters:
        if difference_DN.shape[1]:
            deviation_D = difference_DN.std(1)
            order_D = np.argsort(deviation_D, kind="stable")
            found |= set(order_D[len(order_D) - max(int(share * len(order_D)), 1) :].tolist())
    return np.array(sorted(found), int)


def standardise(pixels_KN: np.ndarray, mean_K: np.ndarray, factor_K: np.ndarray) -> np.ndarray:
    return np.asarray((pixels_KN - mean_K[:, None]) * factor_K[:, None])


def fit_vectors(before_KN: np.ndarray, after_KN: np.ndarray) -> Vectors:
    """Measure the channels that were kept."""
    found: list[list[np.ndarray]] = [[], [], [], []]
    for pixels_KN in (before_KN, after_KN):
        mean_K, deviation_K = pixels_KN.mean(1, dtype=np.float64), pixels_KN.std(1, dtype=np.float64)
        factor_K = np.where(deviation_K > 0, 1 / np.where(deviation_K > 0, deviation_K, 1), 0)
        standard_KN = standardise(pixels_KN, mean_K, factor_K)
        low_K, high_K = standard_KN.min(1), np.percentile(standard_KN, 100 - SATURATED, axis=1)
        for dates, values_K in zip(found, (mean_K, factor_K, low_K, high_K - low_K), strict=True):
            dates.append(values_K)
    return Vectors(*(values_K for dates in found for values_K in dates))
