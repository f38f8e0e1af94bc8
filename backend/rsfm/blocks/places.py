"""Places on the globe, put into clusters by spherical k-means.

Ayush et al., 2021, "Geography-Aware Self-Supervised Learning", arXiv:2011.09980, cluster latitude and longitude in the
plane; on the sphere the antimeridian and the poles are places like any other. Dhillon and Modha, 2001, "Concept
Decompositions for Large Sparse Text Data Using Clustering".

Shape letters: N places, K clusters, D 3 on the sphere (a unit vector) or 2 in the plane (latitude, longitude).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

EARTH_KM = 6371.0
ROUNDS = 1000


class Clusters(NamedTuple):
    """Centres, centres_KD, none of them empty, and the cluster of each place, labels_N."""

    centres_KD: Tensor
    labels_N: Tensor


def unit_vectors(places_N2: Tensor) -> Tensor:
    """Turn latitude and longitude in degrees into points of the unit sphere, points_N3 in float64."""
    latitude_N, longitude_N = places_N2.double().deg2rad().unbind(1)
    near_N = latitude_N.cos()
    return torch.stack([near_N * longitude_N.cos(), near_N * longitude_N.sin(), latitude_N.sin()], dim=1)


def nearest(points_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """Return the label of each point's nearest centre; on the unit sphere that is the one of the largest cosine."""
    return torch.cdist(points_ND, centres_KD.to(points_ND), compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def lloyd(points_ND: Tensor, centres_KD: Tensor, spherical: bool) -> Clusters:
    """Move centres to the means of their points until none changes its cluster; an empty cluster is dropped.

    Args:
        spherical: points are unit vectors, and so is a mean.
    """
    labels_N = torch.full((len(points_ND),), -1, device=points_ND.device)
    for _ in range(ROUNDS):
        found_N = nearest(points_ND, centres_KD)
        if torch.equal(found_N, labels_N):
            break
        present_K, labels_N = torch.unique(found_N, return_inverse=True)
        sums_KD = points_ND.new_zeros(len(present_K), points_ND.shape[1]).index_add(0, labels_N, points_ND)
        centres_KD = sums_KD / labels_N.bincount()[:, None]
        if spherical:
            centres_KD = functional.normalize(centres_KD, dim=1)
    return Clusters(centres_KD, labels_N)


def spread_centres(points_ND: Tensor, count: int, seed: int) -> Tensor:
    """Draw first centres that lie apart (k-means++); fewer than `count` where there are fewer different points.

    Arthur and Vassilvitskii, 2007, "k-means++: The Advantages of Careful Seeding".
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(points_ND), (), generator=generator))]
    squared_N = (points_ND - points_ND[chosen[0]]).square().sum(1)
    while len(chosen) < count and squared_N.max() > 0:
        chosen.append(int(torch.multinomial(squared_N.cpu(), 1, generator=generator)))
        squared_N = torch.minimum(squared_N, (points_ND - points_ND[chosen[-1]]).square().sum(1))
    return points_ND[chosen]


def extent_km(points_N3: Tensor) -> float:
    """Return about the largest distance between two places: from the one furthest from the middle to its furthest."""
    middle_3 = functional.normalize(points_N3.mean(0), dim=0)
    edge_3 = points_N3[(points_N3 @ middle_3).argmin()]
    chord = (points_N3 - edge_3).norm(dim=1).max().clamp(max=2)
    return float(2 * (chord / 2).asin() * EARTH_KM)
