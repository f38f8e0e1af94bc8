"""Colours of features that stay comparable while an encoder learns.

Principal components have no natural order or sign, and turn from look to look. They are whitened and rotated onto those
of the look before, over the same cells (orthogonal Procrustes; Schönemann, 1966, doi:10.1007/BF02289451).

Shape letters: N cells, D features, K components.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

COLOURS = 3
Values = NDArray[np.float32]


class Axes(NamedTuple):
    """values_NK = (features_ND - mean_D) @ axes_DK, each of variance 1 where they were found."""

    mean_D: Values
    axes_DK: Values

    def values(self, features_ND: Values) -> Values:
        """Return values_NK."""
        return np.asarray((features_ND - self.mean_D) @ self.axes_DK, np.float32)

    def turned(self, turn_KK: Values) -> "Axes":
        """Return axes whose values are turned."""
        return Axes(self.mean_D, self.axes_DK @ turn_KK)


def whiten(features_ND: Values) -> Axes:
    """Find the axes of the three largest principal components, each of variance 1; the largest loading is positive."""
    mean_D = features_ND.mean(axis=0, dtype=np.float64)
    centred_ND = features_ND - mean_D
    covariance_DD = centred_ND.T @ centred_ND / max(len(features_ND) - 1, 1)
    largest = (len(mean_D) - COLOURS, len(mean_D) - 1)
    variance_K, vectors_DK = scipy.linalg.eigh(covariance_DD, subset_by_index=largest)
    axes_DK = vectors_DK[:, ::-1]
    signs_K = np.sign(axes_DK[np.abs(axes_DK).argmax(axis=0), range(COLOURS)])
    scale_K = signs_K / np.sqrt(np.maximum(variance_K[::-1], 1e-12))
    return Axes(mean_D.astype(np.float32), (axes_DK * scale_K).astype(np.float32))


def rotation(values_NK: Values, wanted_NK: Values) -> Values:
    """Return the orthogonal turn_KK that brings values_NK @ turn_KK closest to what is wanted."""
    left_KK, _, right_KK = np.linalg.svd(values_NK.T.astype(np.float64) @ wanted_NK)
    return np.asarray(left_KK @ right_KK, np.float32)
