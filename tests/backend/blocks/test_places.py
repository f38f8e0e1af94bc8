"""Clusters of places, against a slow obvious version."""

import math

import numpy as np
import pytest
import torch
from rsfm.blocks.places import EARTH_KM, extent_km, lloyd, nearest, spread_centres, unit_vectors


def places(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(np.stack([rng.uniform(-90, 90, count), rng.uniform(-180, 180, count)], axis=1))


@pytest.mark.parametrize(
    ("place", "point"), [((0, 0), (1, 0, 0)), ((0, 90), (0, 1, 0)), ((90, 17), (0, 0, 1)), ((-90, 5), (0, 0, -1))]
)
def test_latitude_is_first_and_north_is_up(place, point):
    found = unit_vectors(torch.tensor([place], dtype=torch.float32))
    np.testing.assert_allclose(found[0], point, atol=1e-12)


@pytest.mark.parametrize("spherical", [True, False])
def test_clusters_are_a_fixed_point_of_means(spherical):
    points = unit_vectors(places(80)) if spherical else places(80)
    found = lloyd(points, spread_centres(points, 7, 0), spherical)
    for label, centre in enumerate(found.centres_KD):
        mean = points[found.labels_N == label].mean(0)
        expected = mean / mean.norm() if spherical else mean
        torch.testing.assert_close(centre, expected)
    for point, label in zip(points, found.labels_N, strict=True):
        distances = [float((point - centre).square().sum()) for centre in found.centres_KD]
        assert distances[label] == min(distances)


def test_an_empty_cluster_is_dropped_and_the_labels_stay_without_gaps():
    points = unit_vectors(places(20))
    far = torch.cat([points[:3], torch.full((1, 3), 50.0, dtype=torch.float64)])[[3, 0, 1, 2]]
    found = lloyd(points, far, spherical=True)
    assert len(found.centres_KD) == 3
    assert sorted(set(found.labels_N.tolist())) == [0, 1, 2]


def test_first_centres_are_different_places():
    points = unit_vectors(places(6).repeat(5, 1))
    centres = spread_centres(points, 20, 3)
    assert len(centres) == 6
    assert len({tuple(row) for row in centres.round(decimals=9).tolist()}) == 6


def test_largest_cosine_is_nearest():
    points, centres = unit_vectors(places(50)), unit_vectors(places(9, 1))
    assert torch.equal(nearest(points, centres.float()), (points @ centres.T).argmax(1))


@pytest.mark.parametrize(
    ("given", "kilometres"),
    [
        ([(0, 0), (0, 1)], math.radians(1) * EARTH_KM),
        ([(10, 179.9), (10, -179.9)], math.radians(0.2) * EARTH_KM * math.cos(math.radians(10))),
        ([(0, 0), (1, 0), (0, 180)], math.pi * EARTH_KM),
        ([(5, 5), (5, 5)], 0),
    ],
)
def test_extent_is_the_largest_distance(given, kilometres):
    found = extent_km(unit_vectors(torch.tensor(given, dtype=torch.float64)))
    assert found == pytest.approx(kilometres, rel=0.01, abs=1e-3)
