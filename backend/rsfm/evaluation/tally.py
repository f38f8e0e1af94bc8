"""What is counted of a map against the truth, piece by piece, whatever its size, and the scores that follow.

One confusion matrix for all pieces, never a mean over them; what is not labelled is nowhere in it.

Shape letters: N pixels, K classes, P polygons, R resamplings.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm.training.scores import accuracy, class_scores, confusion, kappa, mean_f1, mean_iou

UNLABELLED = -1
BINS = 15
"""Of confidence, between 0 and 1, as Guo et al., 2017, "On Calibration of Modern Neural Networks", count them."""
RESAMPLINGS = 1000
FEWEST_POLYGONS = 10
"""Below it no interval is told."""
INTERVAL = (2.5, 97.5)


class Tally:
    """Counts of pixels.

    Attributes:
        counts_KK: truth in rows, map in columns.
        bins_B3: of each bin of confidence the pixels, those that are right, and the sum of their confidence.
    """

    def __init__(self, classes: int) -> None:
        self.counts_KK = np.zeros((classes, classes), np.int64)
        self.bins_B3 = np.zeros((BINS, 3))

    def add(
        self, truth_N: NDArray[Any], predicted_N: NDArray[Any], confidence_N: NDArray[np.floating[Any]] | None = None
    ) -> None:
        """Count pixels whose truth is known; the map must have a class at each of these."""
        known_N = (truth_N >= 0) & (truth_N < len(self.counts_KK))
        truth_N, predicted_N = truth_N[known_N], predicted_N[known_N]
        self.counts_KK += confusion(truth_N, predicted_N, len(self.counts_KK))
        if confidence_N is not None:
            sure_N = confidence_N[known_N].astype(np.float64)
            bin_N = np.clip(np.ceil(sure_N * BINS) - 1, 0, BINS - 1).astype(int)
            right_N = (truth_N == predicted_N).astype(np.float64)
            for column, weight_N in enumerate((np.ones(len(bin_N)), right_N, sure_N)):
                self.bins_B3[:, column] += np.bincount(bin_N, weight_N, BINS)

    @property
    def calibration_error(self) -> float | None:
        """How far confidence is from the share that is right, on average over the pixels; None without confidence."""
        pixels = self.bins_B3[:, 0].sum()
        return float(np.abs(self.bins_B3[:, 1] - self.bins_B3[:, 2]).sum() / pixels) if pixels else None


class Interval(NamedTuple):
    """Where a score lies in 95 of 100 draws of as many polygons."""

    low: float
    high: float


def summary(tally: Tally) -> dict[str, float | None]:
    """Return the scores of all classes together; None where one cannot be told."""
    found: dict[str, float | None] = {
        "accuracy": accuracy(tally.counts_KK),
        "mean_iou": mean_iou(tally.counts_KK),
        "mean_f1": mean_f1(tally.counts_KK),
        "kappa": kappa(tally.counts_KK),
        "calibration_error": tally.calibration_error,
    }
    return {name: None if value is None or np.isnan(value) else round(value, 4) for name, value in found.items()}


def by_class(counts_KK: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the scores of each class by its name."""
    return {name: score._asdict() for name, score in zip(names, class_scores(counts_KK), strict=True)}


def as_table(counts_KK: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Return the counts by the names of the classes, the truth first."""
    return {
        truth: dict(zip(names, counts_K.tolist(), strict=True))
        for truth, counts_K in zip(names, counts_KK, strict=True)
    }


def absent(counts_KK: NDArray[np.int64], names: tuple[str, ...]) -> list[str]:
    """Say which classes cannot be judged."""
    missing = [name for name, count in zip(names, counts_KK.sum(axis=1), strict=True) if count == 0]
    if not missing:
        return []
    listed = ", ".join(f"'{name}'" for name in missing)
    return [f"No label is of {listed}: what is mapped so counts as wrong, and means over classes leave it out."]


def polygon_intervals(
    truth_N: NDArray[Any], predicted_N: NDArray[Any], polygon_N: NDArray[Any], classes: int, seed: int
) -> dict[str, Interval]:
    """Return where scores would lie with other polygons, by drawing from these again and again.

    Pixels of a polygon resemble each other, so that polygons, not pixels, are what was drawn at random.
    """
    polygons, at_N = np.unique(polygon_N, return_inverse=True)
    if len(polygons) < FEWEST_POLYGONS:
        return {}
    cell_N = (at_N * classes + truth_N) * classes + predicted_N
    counts_PK = np.bincount(cell_N, minlength=len(polygons) * classes**2).reshape(len(polygons), classes**2)
    times_RP = np.random.default_rng(seed).multinomial(
        len(polygons), np.full(len(polygons), 1 / len(polygons)), RESAMPLINGS
    )
    drawn = (times_RP @ counts_PK).reshape(RESAMPLINGS, classes, classes)
    found = {}
    for name, score in (("accuracy", accuracy), ("mean_iou", mean_iou)):
        values_R = np.array([score(counts_KK) for counts_KK in drawn])
        low, high = np.nanpercentile(values_R, INTERVAL)
        found[name] = Interval(round(float(low), 4), round(float(high), 4))
    return found
