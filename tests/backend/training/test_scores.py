"""Scores, against a library and against counts made by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rsfm.training.scores import accuracy, class_scores, confusion, mean_iou
from sklearn import metrics


def test_scores_of_a_matrix_by_hand():
    counts_KK = np.array([[3, 1], [2, 4]])
    first, second = class_scores(counts_KK)
    assert (first.precision, first.recall, first.iou) == (3 / 5, 3 / 4, 3 / 6)
    assert second.f1 == 2 * 4 / (6 + 5)
    assert mean_iou(counts_KK) == (3 / 6 + 4 / 7) / 2
    assert accuracy(counts_KK) == 7 / 10


@given(st.integers(0, 2**31), st.integers(2, 7))
def test_scores_equal_the_librarys(seed, classes):
    random = np.random.default_rng(seed)
    truth_N, predicted_N = random.integers(0, classes, 200), random.integers(0, classes, 200)
    counts_KK = confusion(truth_N, predicted_N, classes)
    labels = range(classes)
    assert np.array_equal(counts_KK, metrics.confusion_matrix(truth_N, predicted_N, labels=labels))
    expected = metrics.jaccard_score(truth_N, predicted_N, labels=labels, average=None, zero_division=0)
    found = [score.iou or 0 for score in class_scores(counts_KK)]
    assert np.allclose(found, expected)


@given(st.integers(0, 2**31))
def test_unlabelled_pixels_change_nothing_whatever_is_predicted_there(seed):
    random = np.random.default_rng(seed)
    truth_N = random.integers(-1, 3, 100)
    predicted_N = random.integers(0, 3, 100)
    other_N = np.where(truth_N < 0, random.integers(0, 3, 100), predicted_N)
    assert np.array_equal(confusion(truth_N, predicted_N, 3), confusion(truth_N, other_N, 3))
