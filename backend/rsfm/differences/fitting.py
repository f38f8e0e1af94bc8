"""Learns from marks which changes are meant: logistic regression, in which each kind counts the same.

Shape letters: K kinds, F features, N pixels, C bands, P components, H rows, W columns.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from rsfm.differences.marks import Mark
from rsfm.differences.planes import Planes, Scene
from rsfm.errors import UserError

REGULARISATION = 1.0
"""C of the regression, for features with a deviation of 1; measured on real pairs."""
LEAST, MOST = 2**-20, 1 - 2**-20
"""Of a probability, so that the whole part of a likeness is the kind, of up to sixteen."""
CHUNK_PIXELS = 2**16
"""Pixels that are weighed at once, so that they stay in the processor's cache."""


class Weights(NamedTuple):
    """What is learned: logits_K = features_F @ coefficients_KF.T + intercepts_K, against what is not meant."""

    coefficients_KF: np.ndarray
    intercepts_K: np.ndarray


def learn(scene: Scene, marks: list[Mark], known: dict[object, np.ndarray]) -> Weights:
    """Fit the regression.

    Args:
        known: features_NF of the valid pixels of marks that were read before, by their key; it takes up new ones.

    Raises:
        UserError: hardly a mark of a kind lies on pixels that are valid on both dates.
    """
    for mark in marks:
        if mark.key not in known:
            known[mark.key] = _look(scene, mark)
    features = [known[mark.key] for mark in marks]
    kinds = np.concatenate([np.full(len(found), mark.kind) for mark, found in zip(marks, features, strict=True)])
    weights = [
        np.full(len(found), mark.weight / max(len(found), 1)) for mark, found in zip(marks, features, strict=True)
    ]
    names = 1 + max(mark.kind for mark in marks)
    absent = [kind for kind in range(names) if not (kinds == kind).any()]
    if absent:
        what = "what you mean" if absent[0] else "what you do not mean"
        raise UserError(
            f"Every mark of {what} lies where a date has no valid pixel. Mark places that both rasters show, under "
            "'Clicks'.",
            "clicks",
        )
    features_NF = np.concatenate(features)
    deviation_F = np.ones(features_NF.shape[1])  # the components of an encoder have one of 1 already
    deviation_F[: len(scene.deviation_F)] = scene.deviation_F
    found = fit(features_NF / deviation_F, kinds, np.concatenate(weights))
    return found._replace(coefficients_KF=found.coefficients_KF / deviation_F)


def fit(features_NF: np.ndarray, kinds_N: np.ndarray, weights_N: np.ndarray) -> Weights:
    """Fit, with the classes weighted equally.

    Args:
        kinds_N: from 0, which is what is not meant, to K.
    """
    from sklearn.linear_model import LogisticRegression

    sums_K = np.bincount(kinds_N, weights_N)
    balanced_N = weights_N * (weights_N.sum() / len(sums_K) / sums_K)[kinds_N]
    model = LogisticRegression(C=REGULARISATION, max_iter=5000, tol=1e-6)
    model.fit(features_NF, kinds_N, sample_weight=balanced_N)
    coefficients, intercepts = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(coefficients) > 1:
        coefficients, intercepts = coefficients[1:] - coefficients[0], intercepts[1:] - intercepts[0]
    return Weights(coefficients, intercepts)


def likeness(planes: Planes, weights: Weights) -> np.ndarray:
    """Return the number of the likeliest kind from 0, plus the probability of any kind below 1; NaN where invalid.

    Sums are made pixel by pixel in one order, so that the size of a window changes nothing.
    """
    height, width = planes.valid_HW.shape
    found_HW = np.empty((height, width), np.float32)
    rows = max(1, CHUNK_PIXELS // max(width, 1))
    for row in range(0, height, rows):
        part = Planes(*(plane[..., row : row + rows, :] for plane in planes))
        logits_KHW = _logits(part, weights)
        best_HW = logits_KHW.max(axis=0)
        any_HW = best_HW
        if len(logits_KHW) > 1:
            any_HW = best_HW + np.log(np.exp(logits_KHW - best_HW).sum(axis=0))
        code_HW = np.clip(expit(any_HW), np.float32(LEAST), np.float32(MOST))
        if len(logits_KHW) > 1:
            code_HW += logits_KHW.argmax(axis=0).astype(np.float32)
        code_HW[~part.valid_HW] = np.nan
        found_HW[row : row + rows] = code_HW
    return found_HW


def _look(scene: Scene, mark: Mark) -> np.ndarray:
    found = []
    for window, inside_HW in mark.pieces:
        planes = scene.read(window, scene.look(window))
        found.append(planes.features(inside_HW & planes.valid_HW))
    return np.concatenate(found)


def _logits(planes: Planes, weights: Weights) -> np.ndarray:
    """Return logits_KHW; differences are not computed, their weights are added to those of the dates."""
    bands = len(planes.before_CHW)
    parts = np.cumsum([bands] * 7 + [len(planes.cells_before_PHW)] * 2)
    logits_KHW = np.empty((len(weights.intercepts_K), *planes.valid_HW.shape), np.float32)
    product_HW = np.empty(planes.valid_HW.shape, np.float32)
    for coefficients_F, intercept, total_HW in zip(*weights, logits_KHW, strict=True):
        size, d, before, after, around_d, around_before, around_after, cells_d, cells_before, cells_after = np.split(
            coefficients_F, parts
        )
        total_HW[:] = np.float32(intercept)
        for coefficient, before_HW, after_HW in zip(size, planes.before_CHW, planes.after_CHW, strict=True):
            np.subtract(after_HW, before_HW, out=product_HW)
            np.abs(product_HW, out=product_HW)
            product_HW *= np.float32(coefficient)
            total_HW += product_HW
        own = np.concatenate([before - d, after + d, around_before - around_d, around_after + around_d])
        own = np.concatenate([own, cells_before - cells_d, cells_after + cells_d])
        layers = (layer_HW for plane in planes[:6] for layer_HW in plane)
        for coefficient, layer_HW in zip(own, layers, strict=True):
            np.multiply(layer_HW, np.float32(coefficient), out=product_HW)
            total_HW += product_HW
    return logits_KHW
