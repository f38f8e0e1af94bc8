"""What learns from labelled pixels within a moment.

Shape letters: N pixels, D features, K classes.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from rsfm.training.linear_fit import LinearFit, fit

PENALTY = 0.1
TREES, DEEPEST, SMALLEST_LEAF = 40, 14, 2
FLOOR = 1e-6


class Learner(Protocol):
    """Tells classes by features."""

    def values(self, features_DN: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values_KN, whose softmax over the classes is their probability."""


class Linear:
    """Logistic regression: between cells its values may be interpolated in place of the features."""

    def __init__(self, features_ND: NDArray[np.float32], class_N: NDArray[np.int64], classes: int) -> None:
        self.fitted: LinearFit = fit(features_ND, class_N, classes, PENALTY)

    def values(self, features_DN: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.fitted.weight_KD @ features_DN + self.fitted.bias_K[:, None])


class Forest:
    """A random forest; its values are logarithms of the trees' shares."""

    def __init__(self, features_ND: NDArray[np.float32], class_N: NDArray[np.int64], classes: int, seed: int) -> None:
        self._classes = classes
        self._trees = RandomForestClassifier(
            TREES,
            max_depth=DEEPEST,
            min_samples_leaf=SMALLEST_LEAF,
            class_weight="balanced_subsample",
            random_state=seed,
            n_jobs=1,  # the blocks of a map share the cores
        ).fit(features_ND, class_N)

    def values(self, features_DN: NDArray[np.float32]) -> NDArray[np.float32]:
        share_KN = np.zeros((self._classes, features_DN.shape[1]), np.float32)
        share_KN[self._trees.classes_] = self._trees.predict_proba(np.ascontiguousarray(features_DN.T)).T
        return np.log(np.maximum(share_KN, FLOOR))


def learn(name: str, features_ND: NDArray[np.float32], class_N: NDArray[np.int64], classes: int, seed: int) -> Learner:
    """Fit the learner of that name, "linear" or "forest"."""
    if name == "forest":
        return Forest(features_ND, class_N, classes, seed)
    return Linear(features_ND, class_N, classes)
