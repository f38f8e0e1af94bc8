"""The linear fit: the folded map equals the library's, and thinning is fair."""

import numpy as np
import pytest
from rsfm.training.linear_fit import cross_validate, fit, thin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def clusters(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    class_N = np.repeat(np.arange(classes), 40)
    return random.normal(0, 1, (len(class_N), 5)) * [1, 10, 100, 1, 1] + class_N[:, None] * [2, 0, 0, 1, 0], class_N


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_folded_map_predicts_as_scaling_and_regression_in_sequence(classes):
    features_ND, class_N = clusters(classes)
    slow = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    slow.fit(features_ND, class_N)
    assert np.mean(fit(features_ND, class_N, classes, 0.1).predict(features_ND) == slow.predict(features_ND)) > 0.995


def test_class_without_pixels_is_never_predicted():
    features_ND, class_N = clusters(3)
    kept = class_N != 1
    predicted = fit(features_ND[kept], class_N[kept], 3, 0.1).predict(features_ND)
    assert 1 not in predicted


def test_cross_validation_on_noise_is_at_chance_and_on_signal_is_not():
    features_ND, class_N = clusters(3)
    fold_N = np.arange(len(class_N)) % 3
    assert cross_validate(features_ND, class_N, fold_N, 3).mean_iou > 0.6
    noise_ND = np.random.default_rng(1).normal(size=features_ND.shape)
    assert cross_validate(noise_ND, class_N, fold_N, 3).mean_iou < 0.35


def test_thinning_takes_every_polygon_before_any_polygon_twice():
    class_N = np.repeat([0, 0, 1], [500, 5, 20])
    polygon_N = np.repeat([0, 1, 2], [500, 5, 20])
    kept = thin(class_N, polygon_N, 10, seed=0)
    assert np.bincount(polygon_N[kept]).tolist() == [5, 5, 10]
    assert np.array_equal(kept, thin(class_N, polygon_N, 10, seed=0))
