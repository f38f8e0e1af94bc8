"""The area of each class on the ground with its confidence interval, from a map and points whose class was looked up.

Counting a map's pixels takes its errors for truth. Points drawn at random in each class of the map say which share of
it is what, and the shares of all strata, weighed by their areas, give areas without bias (Cochran, 1977, "Sampling
Techniques", chapter 5; Olofsson et al., 2014, "Good practices for estimating area and assessing accuracy of land
change", Remote Sensing of Environment 148, equations 1 to 11).

Shape letters: S strata (classes of the map), K classes of the truth.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A share, or an area, with its standard error and the ends of its interval."""

    value: float
    error: float
    low: float
    high: float

    def times(self, factor: float) -> "Estimate":
        return Estimate(*(part * factor for part in self))


class Accuracy(NamedTuple):
    """What a stratified sample says of a map.

    Attributes:
        areas_K: of each class.
        overall: share of the area that is mapped right.
        users_S: share of each class of the map that is right.
        producers_K: share of each class on the ground that is mapped so; None where there is none.
        share_SK: of the whole area, by class of the map and class on the ground.
    """

    areas_K: tuple[Estimate, ...]
    overall: Estimate
    users_S: tuple[Estimate, ...]
    producers_K: tuple[Estimate | None, ...]
    share_SK: NDArray[np.float64]


def estimate(counts_SK: NDArray[np.int64], area_S: NDArray[np.float64]) -> Accuracy:
    """Estimate areas and accuracies.

    Strata without points must have been left out, and so their area. A class of the map has the same number as that
    class on the ground; K may be larger than S.

    Args:
        counts_SK: points by the class of the map and the class on the ground.
        area_S: of each class of the map.
    """
    count_S = counts_SK.sum(axis=1)
    weight_S = area_S / area_S.sum()
    share_SK = weight_S[:, None] * counts_SK / count_S[:, None]
    areas_K = tuple(
        _mean(counts_SK[:, at], count_S, weight_S).times(float(area_S.sum())) for at in range(counts_SK.shape[1])
    )
    hits_S = np.array([counts_SK[at, at] for at in range(len(counts_SK))])
    users = [_mean(hits_S[at : at + 1], count_S[at : at + 1], np.ones(1)) for at in range(len(hits_S))]
    producers = [_producer(counts_SK, count_S, area_S, at) for at in range(counts_SK.shape[1])]
    return Accuracy(areas_K, _mean(hits_S, count_S, weight_S), tuple(users), tuple(producers), share_SK)


def _mean(hits_S: NDArray[np.int64], count_S: NDArray[np.int64], weight_S: NDArray[np.float64]) -> Estimate:
    """Estimate the share of a whole from the hits in each stratum.

    The value and its error are the stratified estimator's. For the interval each stratum has half a hit and half a miss
    more (Jeffreys's prior), so that one in which all points agreed is not taken for certain.
    """
    share_S = hits_S / count_S
    value, variance = float(weight_S @ share_S), float(_variances(share_S, count_S - 1, weight_S).sum())
    unsure_S = (hits_S + 0.5) / (count_S + 1)
    middle, part_S = float(weight_S @ unsure_S), _variances(unsure_S, count_S, weight_S)
    freedom = float(part_S.sum() ** 2 / (part_S**2 / np.maximum(count_S - 1, 1)).sum())  # Satterthwaite, 1946
    low, high = score_interval(value, middle * (1 - middle) / float(part_S.sum()), freedom)
    return Estimate(value, variance**0.5, low, high)


def _variances(
    share_S: NDArray[np.float64], count_S: NDArray[np.int64], weight_S: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(weight_S**2 * share_S * (1 - share_S) / np.maximum(count_S, 1))


def score_interval(value: float, points: float, freedom: float) -> tuple[float, float]:
    """Return Wilson's interval of a share that a simple draw of so many points would give.

    It stays between 0 and 1 and is not centred on shares near to them (Wilson, 1927; for designs with strata: Kott and
    Carr, 1997, Journal of Official Statistics 13).
    """
    squared = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) ** 2
    middle = (value + squared / (2 * points)) / (1 + squared / points)
    half = (squared * (value * (1 - value) / points + squared / (4 * points**2))) ** 0.5 / (1 + squared / points)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _producer(
    counts_SK: NDArray[np.int64], count_S: NDArray[np.int64], area_S: NDArray[np.float64], at: int
) -> Estimate | None:
    """Estimate which share of a class on the ground is mapped so (Olofsson et al., equation 7)."""
    share_S = counts_SK[:, at] / count_S
    area = float(area_S @ share_S)
    if area == 0:
        return None
    own_S = (np.arange(len(area_S)) == at).astype(float)
    value = float(own_S * area_S @ share_S) / area
    variance_S = _variances(share_S, count_S - 1, area_S)
    variance = float((((own_S - value) / area) ** 2 * variance_S).sum())
    certain = value * (1 - value) == 0 or variance == 0
    points = float(counts_SK[:, at].sum()) if certain else value * (1 - value) / variance
    low, high = score_interval(value, points, max(float((count_S - 1).sum()), 1.0))
    return Estimate(value, variance**0.5, low, high)
