"""Scores of a classification, all from one confusion matrix.

Shape letters: N pixels, K classes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ClassScore(NamedTuple):
    """Scores of one class; None where the class is neither there nor predicted."""

    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None
    pixels: int


def confusion(truth_N: NDArray[Any], predicted_N: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count pixels, counts_KK: truth in rows, prediction in columns; a truth outside 0..K-1 is not labelled."""
    labelled = (truth_N >= 0) & (truth_N < classes)
    pairs = truth_N[labelled].astype(np.int64) * classes + predicted_N[labelled]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_scores(counts_KK: NDArray[np.int64]) -> list[ClassScore]:
    """Return precision, recall, F1 and intersection over union of each class."""
    hits = np.diag(counts_KK)
    truth, predicted = counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    return [
        ClassScore(
            _ratio(hits[k], predicted[k]),
            _ratio(hits[k], truth[k]),
            _ratio(2 * hits[k], truth[k] + predicted[k]),
            _ratio(hits[k], truth[k] + predicted[k] - hits[k]),
            int(truth[k]),
        )
        for k in range(len(counts_KK))
    ]


def mean_iou(counts_KK: NDArray[np.int64]) -> float:
    """Average the intersection over union of the classes that are there."""
    found = [score.iou for score in class_scores(counts_KK) if score.pixels and score.iou is not None]
    return float(np.mean(found)) if found else float("nan")


def mean_f1(counts_KK: NDArray[np.int64]) -> float:
    """Average the F1 of the classes that are there."""
    found = [score.f1 for score in class_scores(counts_KK) if score.pixels and score.f1 is not None]
    return float(np.mean(found)) if found else float("nan")


def accuracy(counts_KK: NDArray[np.int64]) -> float:
    """Return the share of pixels that are right."""
    return float(np.trace(counts_KK) / max(counts_KK.sum(), 1))


def kappa(counts_KK: NDArray[np.int64]) -> float:
    """Return how far the agreement is beyond chance (Cohen, 1960); not a number where chance alone would be right."""
    share_KK = counts_KK / max(counts_KK.sum(), 1)
    chance = float(share_KK.sum(axis=0) @ share_KK.sum(axis=1))
    return (float(np.trace(share_KK)) - chance) / (1 - chance) if chance < 1 else float("nan")


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
