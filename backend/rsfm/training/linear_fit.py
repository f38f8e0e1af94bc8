"""Logistic regression on features of labelled pixels, as one linear map.

Shape letters: N labelled pixels, D features, K classes.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from rsfm.training.scores import confusion, mean_iou

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Values of C that cross-validation chooses from."""


class LinearFit(NamedTuple):
    """logits_NK = features_ND @ weight_KD.T + bias_K."""

    weight_KD: NDArray[np.float32]
    bias_K: NDArray[np.float32]

    def predict(self, features_ND: NDArray[Any]) -> NDArray[np.int64]:
        """Return the class of each pixel."""
        return np.asarray((features_ND @ self.weight_KD.T + self.bias_K).argmax(axis=1))


class Validated(NamedTuple):
    """The best C by cross-validation, and the mean IoU it reached on the held-out folds."""

    penalty: float
    mean_iou: float


def fit(
    features_ND: NDArray[Any], class_N: NDArray[Any], classes: int, penalty: float, balanced: bool = True
) -> LinearFit:
    """Fit logistic regression on standardised features, and fold the standardisation into the map.

    A class without a pixel gets a logit that never wins.
    """
    mean_D = features_ND.mean(axis=0)
    std_D = np.maximum(features_ND.std(axis=0), 1e-6)
    model = solve((features_ND - mean_D) / std_D, class_N, penalty, balanced)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # sklearn keeps one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight_KD = np.zeros((classes, features_ND.shape[1]), np.float32)
    bias_K = np.full(classes, -1e9, np.float32)
    weight_KD[model.classes_] = coefficients / std_D
    bias_K[model.classes_] = intercepts - (coefficients / std_D) @ mean_D
    return LinearFit(weight_KD, bias_K)


def solve(
    features_ND: NDArray[Any], class_N: NDArray[Any], penalty: float, balanced: bool, slack: float = 1e-4
) -> LogisticRegression:
    """Fit logistic regression on features as they are.

    Args:
        slack: the largest gradient at which the fit ends.
    """
    model = LogisticRegression(C=penalty, class_weight="balanced" if balanced else None, max_iter=500, tol=slack)
    with warnings.catch_warnings(), threadpool_limits(1):  # threads cost more than they give on so little
        warnings.simplefilter("ignore", ConvergenceWarning)  # 500 steps are close enough for a map
        return model.fit(features_ND, class_N)


def cross_validate(
    features_ND: NDArray[Any], class_N: NDArray[Any], fold_N: NDArray[Any], classes: int, balanced: bool = True
) -> Validated:
    """Choose C by cross-validation over folds that keep polygons whole; counts are pooled over the folds."""
    results = []
    for penalty in PENALTIES:
        counts_KK = np.zeros((classes, classes), np.int64)
        for fold in np.unique(fold_N):
            held = fold_N == fold
            fitted = fit(features_ND[~held], class_N[~held], classes, penalty, balanced)
            counts_KK += confusion(class_N[held], fitted.predict(features_ND[held]), classes)
        results.append(Validated(penalty, mean_iou(counts_KK)))
    return max(results, key=lambda result: result.mean_iou)


def thin(class_N: NDArray[Any], polygon_N: NDArray[Any], most: int, seed: int) -> NDArray[np.int64]:
    """Choose at most so many pixels of each class, as evenly over its polygons as they allow; returns their indices."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(class_N):
        indices = random.permutation(np.flatnonzero(class_N == label))
        order = np.argsort(_rank_in_group(polygon_N[indices]), kind="stable")
        chosen.append(indices[order[:most]])
    return np.sort(np.concatenate(chosen))


def _rank_in_group(group_N: NDArray[Any]) -> NDArray[np.int64]:
    """Count, for each entry, how many entries of its group come before it."""
    order = np.argsort(group_N, kind="stable")
    ordered = group_N[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(group_N)) - np.repeat(starts, np.diff(np.r_[starts, len(group_N)]))
    result = np.empty(len(group_N), np.int64)
    result[order] = ranks
    return result
