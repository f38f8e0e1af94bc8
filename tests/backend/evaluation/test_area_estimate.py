"""The stratified estimator: a published example, and intervals that cover the truth as often as they say."""

import numpy as np
import pytest
from rsfm.evaluation.area_estimate import estimate


def test_areas_of_a_published_example():
    """Olofsson et al., 2014, Remote Sensing of Environment 148, tables 8 and 9: deforestation and forest gain."""
    counts_SK = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    area_S = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09  # pixels of 30 m in hectares
    found = estimate(counts_SK, area_S)
    assert found.areas_K[0].value == pytest.approx(21_158, rel=1e-3)
    assert 1.96 * found.areas_K[0].error == pytest.approx(6_158, rel=2e-3)
    assert found.overall.value == pytest.approx(0.95, abs=0.005)
    assert [round(each.value, 2) for each in found.users_S] == [0.88, 0.73, 0.93, 0.96]
    assert [round(each.value, 2) for each in found.producers_K] == [0.75, 0.85, 0.93, 0.96]
    assert sum(each.value for each in found.areas_K) == pytest.approx(area_S.sum())


def test_intervals_cover_the_truth_in_95_of_100_maps():
    random = np.random.default_rng(5)
    covered, every = np.zeros(3), 500
    for _ in range(every):
        weight_S = random.dirichlet([8, 4, 2])
        confusion_SK = np.stack([random.dirichlet(np.where(np.arange(3) == at, 24, 2.5)) for at in range(3)])
        truth_K = weight_S @ confusion_SK
        points_S = np.maximum((300 * weight_S).astype(int), 30)
        counts_SK = np.stack([random.multinomial(n, p_K) for n, p_K in zip(points_S, confusion_SK, strict=True)])
        found = estimate(counts_SK, weight_S)
        covered += [each.low <= truth <= each.high for each, truth in zip(found.areas_K, truth_K, strict=True)]
    assert (np.abs(covered / every - 0.95) <= 0.03).all(), covered / every


def test_a_class_without_a_hit_is_not_taken_for_certain():
    found = estimate(np.array([[50, 0], [0, 50]]), np.array([900.0, 100.0]))
    assert found.overall.value == 1
    assert found.overall.error == 0
    assert 0.9 < found.overall.low < 1
    assert found.areas_K[1].high > 110
    assert found.areas_K[0].low < 890


def test_areas_follow_the_points_and_not_the_pixels():
    found = estimate(np.array([[80, 20], [0, 100]]), np.array([500.0, 500.0]))
    assert [each.value for each in found.areas_K] == [400, 600]
    assert found.producers_K[1].value == pytest.approx(500 / 600)
